import { deepEqual, equal, rejects } from "node:assert/strict";
import { DurableGenerations } from "../../jobs/durable_generations.ts";
import type { GenerationEvent } from "../../jobs/generation.ts";
import { runGenerations } from "../../jobs/run.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { testOnEachStore, testOnServer } from "../store/each_store.ts";
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
  const ends = [];
  for (const end of endings) {
    const { id } = await generations.submit(requestFrom("alice"));
    const events = eventsOf(generations, id);
    const run = await executor.next();
    lost.next = true;
    await end(run, id);
    ends.push(typesOf(await events).at(-1));
    equal((await findGeneration(room, id))?.state, (await generations.find("alice", id))?.status);
  }
  deepEqual([ends, lost.next], [["succeeded", "failed", "failed"], false]);
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
