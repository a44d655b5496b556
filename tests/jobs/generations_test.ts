import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { InsufficientCreditError } from "../../billing/ledger.ts";
import { readUsage } from "../../billing/usage.ts";
import { accept, TooManyGenerationsError } from "../../jobs/accept.ts";
import { imageKey } from "../../jobs/image_store.ts";
import { generationQueue, type JobsRoom, leaseSeconds, poisonQueue } from "../../jobs/room.ts";
import { recoverRunning, runGenerations } from "../../jobs/run.ts";
import { openInput } from "../../jobs/sealed_input.ts";
import { fail, succeed, withdraw } from "../../jobs/settle.ts";
import { sweep } from "../../jobs/sweep.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { delay } from "../delay.ts";
import { openTestStore, testOnEachStore, testOnServer } from "../store/each_store.ts";
import { findGeneration, waitForEnd } from "./wait_for_end.ts";
import { whileAging } from "./while_aging.ts";
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
    const begunAgain: string[] = [];
    await using _running = await runGenerations(room, executor, {
      concurrency: 1,
      onFault: (_id, error) => faults.push(error),
      onBegunAgain: (id) => begunAgain.push(id),
    });
    const { id } = await accept(room, requestFrom("alice"));
    (await executor.next()).fail(
      new PipelineError("internal_error", "a run that failed, in a worker that lives"),
    );
    for (let run = 1; run < 3; run++) (await executor.next()).fail(new Error("secret words of a prompt"));
    const row = await waitForEnd(room, id, never);
    deepEqual(begunAgain, [id, id]);
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

testOnServer("a run longer than its lease is left to who renews it", async ({ store, another }) => {
  await using room = await openTestRoom(store);
  await using otherStore = await another!();
  await using other = await openTestRoom(otherStore);
  const executor = new ControlledExecutor();
  const idle = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const { id } = await accept(room, requestFrom("alice"));
  const run = await executor.next();
  await using _other = await runGenerations(other, idle, { concurrency: 1 });
  const lease = async () => {
    const { rows: [row] } = await sql<{ state: string; renewed: number; lease: number; tries: number }>`
      select state::text, extract(epoch from heartbeat_on - started_on)::float as renewed,
        heartbeat_seconds as lease, retry_count as tries
      from queue.job where name = ${generationQueue} and data->>'id' = ${id}
    `.execute(otherStore.queries);
    return row!;
  };
  // until it has been renewed after its first end; the other instance looks for abandoned ones all the while
  for (let looks = 0; (await lease()).renewed <= leaseSeconds; looks++) {
    ok(looks < 300, "the lease is not renewed");
    await sql`update queue.queue set monitor_on = null`.execute(otherStore.queries);
    await other.queue.supervise();
    await delay(200);
  }
  const { state, lease: seconds, tries } = await lease();
  deepEqual([state, seconds, tries], ["active", leaseSeconds, 0]);
  equal(idle.pending, 0);
  ok(!run.signal.aborted);
  run.succeed();
  const row = await waitForEnd(room, id, never);
  deepEqual([row.state, row.attempt], ["succeeded", 1]);
});

testOnEachStore("a run may take as long as a generation may, and an outage more", async ({ store }) => {
  const mostSeconds = async (timeoutSeconds: number) => {
    await using _room = await openTestRoom(store, { timeoutSeconds });
    const { rows: [queue] } = await sql<{ expire_seconds: number; retry_delay: number }>`
      select expire_seconds, retry_delay from queue.queue where name = ${generationQueue}
    `.execute(store.queries);
    ok(queue!.retry_delay > 0, "tries are not used up within a moment");
    return queue!.expire_seconds;
  };
  deepEqual([await mostSeconds(600), await mostSeconds(7200), await mostSeconds(86_400)], [
    3600,
    10_200,
    86_400,
  ]);
});

testOnEachStore("the sweep ends what says it runs and nobody will ever end", async ({ store }) => {
  await using room = await openTestRoom(store);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 3 });
  const ids: string[] = [];
  for (let n = 0; n < 3; n++) {
    ids.push((await accept(room, requestFrom("alice"))).id);
    await executor.next();
  }
  const [carried, lost, young] = ids as [string, string, string];
  const late = (id: string, minutes: number) =>
    store.queries.updateTable("generations").set({
      deadline: sql<Date>`now() - make_interval(mins => ${minutes}::int)`,
    }).where("id", "=", id).execute();
  await late(carried, 60);
  await late(lost, 60);
  await late(young, 1);
  await sql`delete from queue.job where data->>'id' in (${lost}, ${young})`.execute(store.queries);
  await sweep(room);
  const states = await Promise.all(ids.map(async (id) => (await findGeneration(room, id))?.state));
  deepEqual(states, ["running", "failed", "running"]);
  equal((await findGeneration(room, lost))?.failure?.code, "worker_failed");
  deepEqual(await balances(room), {
    available: 1000 - 2 * requestPrice,
    reserved: 2 * requestPrice,
    spent: 0,
    funded: 1000,
  });
});

testOnEachStore("photos and prompt lie in the database as nobody can read them", async ({ store }) => {
  await using room = await openTestRoom(store);
  const photo = crypto.getRandomValues(new Uint8Array(64));
  const prompt = "a smile that nobody else may know of";
  const { id } = await accept(room, requestFrom("alice", { referenceImages: [photo], prompt }));
  const { sealed } = await store.queries.selectFrom("generation_inputs").selectAll()
    .where("generation_id", "=", id).executeTakeFirstOrThrow();
  ok(sealed.length > photo.length + prompt.length, "all of it is in there");
  const { input } = await openInput(room.sealer, id, sealed);
  deepEqual([[...input.referenceImages[0]!], input.prompt], [[...photo], prompt]);
  const lies = new Uint8Array(sealed).toHex();
  for (const secret of [photo.subarray(0, 8), photo.subarray(56), new TextEncoder().encode("nobody else")]) {
    ok(!lies.includes(new Uint8Array(secret).toHex()));
  }
  const row = await findGeneration(room, id);
  ok(!JSON.stringify(row).includes("nobody else"));
});

testOnEachStore("usage is counted on the UTC day of the end, at any hour", async ({ store }) => {
  await using room = await openTestRoom(store);
  const ends = [
    "2026-03-01T23:59:59.999Z",
    "2026-03-02T00:00:00Z",
    "2026-03-02T23:59:59.999Z",
    "2026-03-03T00:00:00Z",
  ];
  const ids: string[] = [];
  for (const _end of ends) {
    const request = requestFrom("alice");
    const { id } = await accept(room, request);
    await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).where("id", "=", id)
      .execute();
    await succeed(room, { id, attempt: 1 }, outputOf(request.input));
    ids.push(id);
  }
  // what is over does not change, but for this test
  await sql`alter table generations disable trigger generations_step`.execute(store.queries);
  for (const [n, end] of ends.entries()) {
    await store.queries.updateTable("generations").set({ finished_at: new Date(end) }).where(
      "id",
      "=",
      ids[n]!,
    )
      .execute();
  }
  const usage = async (from: string, to: string) => {
    const { rows, total } = await readUsage(store.queries, "alice", { from, to });
    return {
      days: rows.map(({ day, generations, credits }) => [day, generations, credits]),
      total: total.credits,
    };
  };
  const days = [["2026-03-01", 1, requestPrice], ["2026-03-02", 2, 2 * requestPrice], [
    "2026-03-03",
    1,
    requestPrice,
  ]];
  deepEqual(await usage("2026-03-01", "2026-03-02"), { days: days.slice(0, 2), total: 3 * requestPrice });
  deepEqual(await usage("2026-03-02", "2026-03-02"), { days: days.slice(1, 2), total: 2 * requestPrice });
  deepEqual(await usage("2026-02-01", "2026-04-01"), { days, total: 4 * requestPrice });
  // however the server's own clock is set
  const { rows } = await store.transaction(async (transaction) => {
    await sql`set local time zone 'Asia/Tokyo'`.execute(transaction);
    return await readUsage(transaction, "alice", { from: "2026-03-02", to: "2026-03-02" });
  });
  deepEqual(rows.map(({ day, generations }) => [day, generations]), [["2026-03-02", 2]]);
});

testOnServer("what others notify on the channel is no news, and no harm", async ({ store, another }) => {
  await using room = await openTestRoom(store);
  await using otherStore = await another!();
  await using other = await openTestRoom(otherStore);
  const heard = Promise.withResolvers<unknown>();
  room.notices.subscribe("gen_1", (notice) => heard.resolve(notice));
  for (const payload of ["{not json", "null", "7", '"gen_1"', "[]", "{}", ""]) {
    await sql`select pg_notify('generations', ${payload})`.execute(otherStore.queries);
  }
  await other.notices.announce(otherStore.queries, { id: "gen_1", state: "running" });
  deepEqual(await heard.promise, { id: "gen_1", state: "running" });
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
