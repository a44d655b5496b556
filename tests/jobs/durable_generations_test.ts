import { deepEqual, equal, rejects } from "node:assert/strict";
import { accept } from "../../jobs/accept.ts";
import { DurableGenerations } from "../../jobs/durable_generations.ts";
import type { GenerationEvent } from "../../jobs/generation.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { runGenerations } from "../../jobs/run.ts";
import { withdraw } from "../../jobs/settle.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { openTestStore, testOnEachStore, testOnServer } from "../store/each_store.ts";
import { ends, PATIENCE_MS } from "./ends.ts";
import { ControlledExecutor, type ControlledRun, openTestRoom, requestFrom } from "./test_room.ts";
import { findGeneration } from "./wait_for_end.ts";

async function eventsOf(generations: DurableGenerations, id: string, after = 0): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of await generations.watch("alice", id, { after }) ?? []) events.push(event);
  return events;
}

const typesOf = (events: readonly GenerationEvent[]) => events.map(({ type }) => type);

testOnEachStore(
  "a generation is followed to its end, observed once, and then forgotten here",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const observed: string[] = [];
    const generations = new DurableGenerations(room, (_generation, { type }) => observed.push(type));
    const executor = new ControlledExecutor();
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    const idempotency = { key: "k", fingerprint: new Uint8Array(32) };
    const { id, status } = await generations.submit({ ...requestFrom("alice"), idempotency });
    equal(status, "queued");
    const live = eventsOf(generations, id);
    const run = await executor.next();
    equal(run.assignment.previewInterval, 0);
    run.tell({ type: "started" });
    run.tell({ type: "progress", progress: { stage: "denoise", step: 2, steps: 20 } });
    deepEqual((await generations.find("alice", id))?.progress, { stage: "denoise", step: 2, steps: 20 });
    equal(await generations.find("bob", id), undefined);
    equal(await generations.watch("bob", id), undefined);
    equal(await generations.cancel("bob", id), undefined);
    const again = await generations.submit({ ...requestFrom("alice"), idempotency });
    deepEqual([again.id, again.status], [id, "running"]);
    run.succeed();
    deepEqual(typesOf(await live), ["queued", "started", "progress", "image", "succeeded"]);
    deepEqual(observed, ["queued", "started", "progress", "image", "succeeded"]);
    equal(generations.size.generations, 0);
    equal((await generations.find("alice", id))?.images.length, 1);
    equal(await generations.remove("alice", id), true);
    equal(await generations.remove("alice", id), false);
    equal(await generations.find("alice", id), undefined);
    await generations.close();
  },
);

testOnEachStore("a generation that is refused is not followed", async ({ store }) => {
  await using room = await openTestRoom(store, { initialCredit: 0 });
  const generations = new DurableGenerations(room);
  const error = await generations.submit(requestFrom("alice")).catch((error) => error);
  equal(error.name, "InsufficientCreditError");
  equal(generations.size.generations, 0);
  await generations.close();
});

testOnEachStore("an end whose commit has no answer is heard of all the same", async ({ store }) => {
  const lost = { next: false };
  const transaction: typeof store.transaction = async (work) => {
    const result = await store.transaction(work);
    if (!lost.next) return result;
    lost.next = false;
    throw Object.assign(new Error("reset"), { code: "ECONNRESET" });
  };
  await using room = await openTestRoom({ ...store, transaction });
  const generations = new DurableGenerations(room);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const refusal = new PipelineError("face_not_found", "no face");
  const endings: ((run: ControlledRun, id: string) => unknown)[] = [
    (run) => run.succeed(),
    (run) => run.fail(refusal),
    (_run, id) =>
      rejects(generations.cancel("alice", id), /reset/).then(() => generations.cancel("alice", id)),
  ];
  const last = [];
  for (const end of endings) {
    const { id } = await generations.submit(requestFrom("alice"));
    const events = eventsOf(generations, id);
    const run = await executor.next();
    lost.next = true;
    await end(run, id);
    last.push(typesOf(await events).at(-1));
    equal((await findGeneration(room, id))?.state, (await generations.find("alice", id))?.status);
  }
  deepEqual([last, lost.next], [["succeeded", "failed", "failed"], false]);
  equal(generations.size.generations, 0);
  await generations.close();
});

testOnServer("any instance tells of, and cancels, what another one runs", async ({ store, another }) => {
  await using room = await openTestRoom(store);
  await using otherStore = await another!();
  await using other = await openTestRoom(otherStore);
  const here = new DurableGenerations(room);
  const there = new DurableGenerations(other);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 2, progressMilliseconds: 0 });
  const watched = await here.submit(requestFrom("alice"));
  const crowd = Array.from({ length: 5 }, () => eventsOf(there, watched.id));
  (await executor.next()).succeed();
  for (const events of await Promise.all(crowd)) equal(events.at(-1)?.type, "succeeded");

  const first = await there.submit(requestFrom("alice"));
  const seenThere = eventsOf(there, first.id);
  const run = await executor.next();
  run.tell({ type: "progress", progress: { stage: "denoise", step: 1, steps: 20 } });
  run.succeed();
  const types = typesOf(await seenThere);
  deepEqual([types[0], types.at(-2), types.at(-1)], ["queued", "image", "succeeded"]);

  const second = await here.submit(requestFrom("alice"));
  const lost = await executor.next();
  const stopped = new Promise((resolve) => lost.signal.addEventListener("abort", resolve));
  const seenHere = eventsOf(here, second.id);
  equal((await there.cancel("alice", second.id))?.status, "canceled");
  await stopped;
  deepEqual(typesOf(await seenHere).at(-1), "failed");
  await here.close();
  await there.close();
});

/** Watches; there once the first event is. @returns types of all events, when they end */
async function watching(generations: DurableGenerations, id: string): Promise<{ types: Promise<string[]> }> {
  const begun = Promise.withResolvers<void>();
  const types = (async () => {
    const seen: string[] = [];
    for await (const { type } of await generations.watch("alice", id) ?? []) {
      seen.push(type);
      begun.resolve();
    }
    return seen;
  })();
  await begun.promise;
  return { types };
}

testOnServer(
  "who closes lets those go on who watch what another instance runs, until the grace is over",
  async ({ store, another, step }) => {
    await using room = await openTestRoom(store);
    await using otherStore = await another!();
    await using other = await openTestRoom(otherStore);
    const executor = new ControlledExecutor();
    await using _running = await runGenerations(other, executor, { concurrency: 3 });
    const grace = 2 * PATIENCE_MS;

    await step("to its end", async () => {
      const generations = new DurableGenerations(room);
      const { id } = await generations.submit(requestFrom("alice"));
      const watched = await watching(generations, id);
      const run = await executor.next();
      const unwatched = await generations.submit(requestFrom("alice"));
      const closed = generations.close(grace);
      run.succeed();
      equal((await ends(watched.types)).at(-1), "succeeded");
      await ends(closed);
      equal((await findGeneration(room, unwatched.id))?.finished_at, null);
    });

    await step("and holds nobody up for what is not watched", async () => {
      const generations = new DurableGenerations(room);
      await generations.submit(requestFrom("alice"));
      await ends(generations.close(grace));
    });

    await step("no longer than the grace", async () => {
      const generations = new DurableGenerations(room);
      const { id } = await generations.submit(requestFrom("alice"));
      const watched = await watching(generations, id);
      await ends(generations.close(1));
      equal((await ends(watched.types)).includes("succeeded"), false);
      equal((await findGeneration(room, id))?.finished_at, null, "it goes on");
    });
  },
);

Deno.test("nobody waits for what an embedded database's only process does not run any more", async () => {
  await using store = await openTestStore();
  await using room = await openTestRoom(store);
  const generations = new DurableGenerations(room);
  const { id } = await generations.submit(requestFrom("alice"));
  const watched = await watching(generations, id);
  await ends(generations.close(2 * PATIENCE_MS));
  deepEqual(await watched.types, ["queued"]);
});

/** The room as a process has it whose queries are in the test's hands, and which hears of nothing but what it is told. */
function withGate(room: JobsRoom, pass: () => Promise<void>): JobsRoom {
  const queries = room.store.queries.withPlugin({
    transformQuery: ({ node }) => node,
    async transformResult({ result }) {
      await pass();
      return result;
    },
  });
  return { ...room, store: { ...room.store, queries } };
}

/** Ends a generation without this process hearing of it. */
function endUnheard(room: JobsRoom, id: string) {
  const notices = { ...room.notices, tellHere: () => {} };
  return withdraw({ ...room, notices }, id, "canceled");
}

/** No outage, and gone after a while all the same. */
const diskFull = () => Promise.reject(Object.assign(new Error("disk full"), { code: "53100" }));

testOnEachStore(
  "whoever shares a record with somebody whose look failed has all the news",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const looks = Promise.withResolvers<void>();
    const fails = Promise.withResolvers<never>();
    let queries = 0;
    const gated = withGate(room, async () => {
      // the row is found; then it is looked at once more
      if (++queries !== 2) return;
      looks.resolve();
      await fails.promise;
    });
    const generations = new DurableGenerations(gated);
    const { id } = await accept(room, requestFrom("alice"));
    const first = rejects(eventsOf(generations, id), /disk full/);
    await looks.promise;
    const second = eventsOf(generations, id);
    await endUnheard(room, id);
    diskFull().catch(fails.reject);
    await first;
    deepEqual(typesOf(await ends(second)), ["queued", "failed"]);
    equal(generations.size.generations, 0);
    await generations.close();
  },
);

testOnEachStore("an end is looked for until it can be read, whatever is in the way", async ({ store }) => {
  await using room = await openTestRoom(store);
  let failing = 0;
  const gated = withGate(room, async () => {
    if (failing === 0) return;
    failing--;
    await diskFull();
  });
  const faults: unknown[] = [];
  const generations = new DurableGenerations(gated, () => {}, (id, error) => faults.push([id, error]));
  const { id } = await accept(room, requestFrom("alice"));
  const watched = await watching(generations, id);
  await endUnheard(room, id);
  failing = 2;
  room.notices.lookHere(id);
  deepEqual(await ends(watched.types), ["queued", "failed"]);
  deepEqual([faults.length, failing, generations.size.generations], [1, 0, 0]);
  await generations.close();
});
