import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { InsufficientCreditError } from "../../billing/ledger.ts";
import { readUsage } from "../../billing/usage.ts";
import { accept, TooManyGenerationsError } from "../../jobs/accept.ts";
import { imageKey } from "../../jobs/image_store.ts";
import { generationQueue, type JobsRoom, poisonQueue } from "../../jobs/room.ts";
import { recoverRunning, runGenerations } from "../../jobs/run.ts";
import { fail, succeed, withdraw } from "../../jobs/settle.ts";
import { sweep } from "../../jobs/sweep.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { delay } from "../delay.ts";
import { openTestStore, testOnEachStore, testOnServer } from "../store/each_store.ts";
import { findGeneration, waitForEnd } from "./wait_for_end.ts";
import { ControlledExecutor, openTestRoom, outputOf, requestFrom, requestPrice } from "./test_room.ts";

const never = new AbortController().signal;

async function balances(room: JobsRoom, id = "alice"): Promise<Record<string, number>> {
  const { available, reserved, spent, funded } = await room.store.queries.selectFrom("accounts").selectAll()
    .where("id", "=", id).executeTakeFirstOrThrow();
  return { available, reserved, spent, funded };
}

async function count(
  room: JobsRoom,
  table: "generation_inputs" | "image_blobs" | "generation_images" | "generations",
) {
  const rows = await room.store.queries.selectFrom(table).selectAll().execute();
  return rows.length;
}

/** Waits, while the generation's lease looks as if its process had been gone for longer than that. */
async function whileAging<T>(room: JobsRoom, id: string, awaited: Promise<T>): Promise<T> {
  const taken = awaited.then((value) => ({ value }));
  while (true) {
    await sql`
      update queue.job set heartbeat_on = now() - interval '1 hour', start_after = least(start_after, now())
      where data->>'id' = ${id}
    `.execute(room.store.queries);
    await sql`update queue.queue set monitor_on = null`.execute(room.store.queries);
    await room.queue.supervise();
    const result = await Promise.race([taken, delay(50)]);
    if (typeof result === "object") return result.value;
  }
}

testOnEachStore("a generation is accepted, run, charged and kept, its photos erased", async ({ store }) => {
  await using room = await openTestRoom(store);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const request = requestFrom("alice", { numImages: 2, numInferenceSteps: 10 });
  const { id } = await accept(room, request);
  deepEqual(await balances(room), {
    available: 1000 - requestPrice,
    reserved: requestPrice,
    spent: 0,
    funded: 1000,
  });
  const progress: unknown[] = [];
  const end = waitForEnd(room, id, never, (notice) => progress.push(notice?.event ?? notice?.state));
  const run = await executor.next();
  deepEqual({
    ...run.assignment.input,
    referenceImages: run.assignment.input.referenceImages.map((p) => [...p]),
  }, {
    ...request.input,
    referenceImages: [[1, 2, 3], [4]],
  });
  equal((await findGeneration(room, id))?.state, "running");
  run.tell({ type: "progress", progress: { stage: "denoise", step: 1, steps: 10 } });
  run.succeed();
  const row = await end;
  equal(row.state, "succeeded");
  ok(progress.some((entry) => (entry as { type?: string }).type === "progress"));
  equal(progress.at(-1), "succeeded");
  deepEqual(await balances(room), {
    available: 1000 - requestPrice,
    reserved: 0,
    spent: requestPrice,
    funded: 1000,
  });
  equal(await count(room, "generation_inputs"), 0);
  deepEqual(await room.images.get(imageKey(id, 1)), Uint8Array.of(9, 9, 1));
  const day = row.finished_at!.toISOString().slice(0, 10);
  const sums = { generations: 1, images: 2, steps: 20, credits: requestPrice };
  deepEqual(await readUsage(room.store.queries, "alice", { from: day, to: day }), {
    rows: [{ day, key: "test", ...sums }],
    total: sums,
  });
  deepEqual((await readUsage(room.store.queries, "bob", { from: day, to: day })).rows, []);
});

testOnEachStore(
  "what fails, is canceled or expires costs nothing and leaves nothing",
  async ({ store, step }) => {
    await using room = await openTestRoom(store);
    const executor = new ControlledExecutor();
    const untouched = { available: 1000, reserved: 0, spent: 0, funded: 1000 };

    await step("expired: nobody started it in time", async () => {
      const { id } = await accept(room, requestFrom("alice"));
      await store.queries.updateTable("generations").set({ deadline: sql<Date>`now() - interval '1 second'` })
        .where("id", "=", id).execute();
      await sweep(room);
      equal((await findGeneration(room, id))?.state, "expired");
    });

    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    await step("failed: the photo's fault, told as it was", async () => {
      const { id } = await accept(room, requestFrom("alice"));
      (await executor.next()).fail(
        new PipelineError("face_not_found", "Photo 0 shows no face.", { image: 0 }),
      );
      const row = await waitForEnd(room, id, never);
      equal(row.state, "failed");
      deepEqual(row.failure, {
        code: "face_not_found",
        message: "Photo 0 shows no face.",
        details: { image: 0 },
      });
    });

    await step("canceled while it runs: the run is told at once", async () => {
      const { id } = await accept(room, requestFrom("alice"));
      const run = await executor.next();
      equal((await withdraw(room, id, "canceled"))?.state, "canceled");
      ok(run.signal.aborted);
      equal(await withdraw(room, id, "canceled"), undefined, "a second time there is nothing to cancel");
    });

    await step("canceled while it waits: it is never started", async () => {
      const first = await accept(room, requestFrom("alice"));
      const run = await executor.next();
      const second = await accept(room, requestFrom("alice"));
      await withdraw(room, second.id, "canceled");
      const third = await accept(room, requestFrom("alice"));
      run.fail(new PipelineError("face_not_found", "No face.", {}));
      const next = await executor.next();
      equal(next.assignment.id, third.id);
      await withdraw(room, third.id, "canceled");
      equal((await waitForEnd(room, first.id, never)).state, "failed");
    });

    deepEqual(await balances(room), untouched);
    equal(await count(room, "generation_inputs"), 0);
    equal(await count(room, "image_blobs"), 0);
  },
);

testOnEachStore(
  "what cannot be paid or is too much at once is refused and leaves nothing",
  async ({ store }) => {
    await using room = await openTestRoom(store, { initialCredit: 2 * requestPrice, mostAtOnce: 3 });
    await accept(room, requestFrom("alice"));
    await accept(room, requestFrom("alice"));
    await rejects(accept(room, requestFrom("alice")), (error) => {
      ok(error instanceof InsufficientCreditError);
      deepEqual([error.price, error.available], [requestPrice, 0]);
      return true;
    });
    await accept(room, requestFrom("alice", { numInferenceSteps: 1 })).catch(() => {});
    equal(await count(room, "generations"), 2);
    await using generous = {
      ...room,
      settings: { ...room.settings, initialCredit: 1e6 },
      [Symbol.asyncDispose]: async () => {},
    };
    const tries = await Promise.allSettled(
      Array.from({ length: 8 }, () => accept(generous, requestFrom("bob"))),
    );
    const refused = tries.filter((result) => result.status === "rejected");
    equal(refused.length, 5);
    ok(refused.every(({ reason }) => reason instanceof TooManyGenerationsError));
    equal((await balances(room, "bob")).reserved, 3 * requestPrice);
  },
);

testOnEachStore(
  "a message is completed after its end, and one that comes again does nothing",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const executor = new ControlledExecutor();
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    const { id } = await accept(room, requestFrom("alice"));
    const end = waitForEnd(room, id, never);
    (await executor.next()).succeed();
    const row = await end;
    const after = await balances(room);
    const again = await store.transaction((transaction) =>
      room.queue.send(transaction, generationQueue, { id })
    );
    const completed = async () => {
      const { rows } = await sql<{ id: string }>`select id from queue.job where state = 'completed'`.execute(
        store.queries,
      );
      return [row.message_id, again].every((message) => rows.some((job) => job.id === message));
    };
    for (let tries = 0; !await completed(); tries++) {
      ok(tries < 200, "a message stays open");
      await delay(50);
    }
    deepEqual(await findGeneration(room, id), row);
    deepEqual(await balances(room), after);
  },
);

testOnEachStore("only the latest attempt settles, and only once", async ({ store }) => {
  await using room = await openTestRoom(store);
  const request = requestFrom("alice");
  const { id } = await accept(room, request);
  const begin = (attempt: number) =>
    store.queries.updateTable("generations").set({ state: "running", attempt }).where("id", "=", id)
      .execute();
  await begin(1);
  await begin(2);
  const output = outputOf(request.input);
  equal(await succeed(room, { id, attempt: 1 }, output), undefined);
  equal((await succeed(room, { id, attempt: 2 }, output))?.state, "succeeded");
  equal(await succeed(room, { id, attempt: 2 }, output), undefined);
  equal(await fail(room, { id }, { code: "late", message: "late", details: {} }), undefined);
  equal(await withdraw(room, id, "canceled"), undefined);
  deepEqual(await balances(room), {
    available: 1000 - requestPrice,
    reserved: 0,
    spent: requestPrice,
    funded: 1000,
  });
  ok(await room.images.get(imageKey(id, 0)) !== undefined, "who comes too late takes nothing away");
});

testOnEachStore("the database refuses what the rules forbid", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { id } = await accept(room, requestFrom("alice"));
  const { queries } = store;
  const set = (state: "succeeded" | "canceled" | "queued", finished = true) =>
    store.transaction((t) =>
      t.updateTable("generations").set({
        state,
        ...(finished ? { finished_at: new Date(), expires_at: new Date() } : {}),
      })
        .where("id", "=", id).execute()
    );
  await rejects(set("succeeded"), /does not go from queued to succeeded/);
  await rejects(set("canceled"), /charge of .* does not fit its state/, "no release");
  const transfer = { account_id: "alice", generation_id: id } as const;
  const move = (kind: "capture" | "release", amount: number) =>
    queries.insertInto("transfers").values({
      ...transfer,
      kind,
      debit: "reserved",
      credit: kind === "capture" ? "spent" : "available",
      amount,
    }).execute();
  await rejects(move("capture", requestPrice + 1), /nothing like this was reserved/);
  await rejects(
    queries.insertInto("transfers").values({
      ...transfer,
      kind: "capture",
      debit: "available",
      credit: "spent",
      amount: 1,
    })
      .execute(),
    /transfers_kind/,
  );
  await rejects(queries.deleteFrom("transfers").execute(), /only ever added to/);
  await rejects(queries.updateTable("transfers").set({ amount: 0 }).execute(), /only ever added to/);
  await rejects(queries.updateTable("accounts").set({ available: 5000 }).execute(), /accounts_balanced/);
  await withdraw(room, id, "canceled");
  await rejects(move("capture", requestPrice), /transfers_settled_once|accounts_reserved/);
  await rejects(set("queued", false), /does not go from canceled/);
});

testOnEachStore("a stopping instance hands back what it has not finished", async ({ store }) => {
  await using room = await openTestRoom(store);
  const executor = new ControlledExecutor();
  const first = await runGenerations(room, executor, { concurrency: 1 });
  const { id } = await accept(room, requestFrom("alice"));
  await executor.next();
  await first.stop(0);
  equal((await findGeneration(room, id))?.state, "queued");
  await using _second = await runGenerations(room, executor, { concurrency: 1 });
  (await executor.next()).succeed();
  equal((await waitForEnd(room, id, never)).state, "succeeded");
});

testOnEachStore(
  "a generation that crashes its runner is tried three times, then given up",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const executor = new ControlledExecutor();
    const faults: unknown[] = [];
    await using _running = await runGenerations(room, executor, {
      concurrency: 1,
      onFault: (_id, error) => faults.push(error),
    });
    const { id } = await accept(room, requestFrom("alice"));
    for (let run = 0; run < 3; run++) (await executor.next()).fail(new Error("secret words of a prompt"));
    const row = await waitForEnd(room, id, never);
    equal(row.state, "failed");
    equal(row.failure?.code, "worker_failed");
    equal(row.attempt, 3);
    equal(faults.length, 3);
    equal(executor.pending, 0);
    deepEqual(await balances(room), { available: 1000, reserved: 0, spent: 0, funded: 1000 });
    const { rows } = await sql<
      { text: string }
    >`select output::text as text from queue.job where output is not null`
      .execute(store.queries);
    ok(rows.length > 0 && rows.every(({ text }) => !text.includes("secret")), "the queue keeps no message");
  },
);

testOnEachStore("who dies while it gives a generation up has another do it", async ({ store }) => {
  await using room = await openTestRoom(store);
  const claimed = Promise.withResolvers<void>();
  const forever = Promise.withResolvers<void>();
  const stopDead = await room.queue.work(poisonQueue, 1, () => {
    claimed.resolve();
    return forever.promise;
  });
  await store.transaction((transaction) => room.queue.send(transaction, poisonQueue, { id: "gen_1" }));
  await claimed.promise;
  const taken = Promise.withResolvers<string>();
  const stopOther = await room.queue.work<{ id: string }>(poisonQueue, 1, ({ data }) => {
    taken.resolve(data.id);
    return Promise.resolve();
  });
  const late = setTimeout(() => taken.reject(new Error("nobody took it over")), 20_000);
  equal(await whileAging(room, "gen_1", taken.promise), "gen_1");
  clearTimeout(late);
  forever.resolve();
  await Promise.all([stopDead(), stopOther()]);
});

Deno.test("what an embedded database's last process was running is started again at once", async () => {
  await using store = await openTestStore();
  await using room = await openTestRoom(store);
  const dead = new ControlledExecutor();
  await using _dead = await runGenerations(room, dead, { concurrency: 1 });
  const { id } = await accept(room, requestFrom("alice"));
  await dead.next();
  await recoverRunning(room);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  (await executor.next()).succeed();
  const row = await waitForEnd(room, id, never);
  deepEqual([row.state, row.attempt], ["succeeded", 2]);
});

testOnServer("an instance that dies has its generation taken over by another", async ({ store, another }) => {
  await using room = await openTestRoom(store);
  await using otherStore = await another!();
  await using other = await openTestRoom(otherStore);
  const dying = new ControlledExecutor();
  await using _dying = await runGenerations(room, dying, { concurrency: 1 });
  const { id } = await accept(room, requestFrom("alice"));
  const lost = await dying.next();
  const taking = new ControlledExecutor();
  await using _taking = await runGenerations(other, taking, { concurrency: 1 });
  const seen: unknown[] = [];
  const end = waitForEnd(room, id, never, (notice) => seen.push(notice?.state ?? notice?.progress?.step));
  const run = await whileAging(other, id, taking.next());
  equal(run.assignment.id, id);
  run.tell({ type: "progress", progress: { stage: "denoise", step: 3, steps: 20 } });
  run.succeed();
  equal((await end).state, "succeeded");
  deepEqual(seen.slice(0, 2), ["running", 3], "start and progress are heard from the other instance");
  equal((await findGeneration(room, id))?.attempt, 2);
  lost.succeed();
  deepEqual(await balances(room), {
    available: 1000 - requestPrice,
    reserved: 0,
    spent: requestPrice,
    funded: 1000,
  });
});

testOnEachStore("pictures are kept for their time", async ({ store }) => {
  await using room = await openTestRoom(store);
  const request = requestFrom("alice");
  const { id } = await accept(room, request);
  await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).execute();
  await succeed(room, { id, attempt: 1 }, outputOf(request.input));
  await sweep(room);
  equal(await count(room, "image_blobs"), 1);
  await store.queries.updateTable("image_blobs").set({ expires_at: new Date(0) }).execute();
  await store.queries.updateTable("generation_images").set({ expires_at: new Date(0) }).execute();
  equal(await room.images.get(imageKey(id, 0)), undefined);
  let maintained = 0;
  const maintain = () => Promise.resolve(void maintained++);
  await sweep({ ...room, store: { ...room.store, maintain } });
  equal(await count(room, "image_blobs"), 0);
  equal(await count(room, "generation_images"), 0);
  equal(maintained, 1, "the database is tidied with every pass");
});
