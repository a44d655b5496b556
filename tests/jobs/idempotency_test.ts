import { deepEqual, equal, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { accept } from "../../jobs/accept.ts";
import { IdempotencyKeyReusedError, once } from "../../jobs/idempotency.ts";
import { sweep } from "../../jobs/sweep.ts";
import { testOnEachStore, testOnServer } from "../store/each_store.ts";
import { openTestRoom, requestFrom, requestPrice } from "./test_room.ts";

const fingerprint = (fill: number) => new Uint8Array(32).fill(fill);

testOnEachStore(
  "the same key and request get the first answer, another request is refused",
  async ({ store }) => {
    let runs = 0;
    const ask = (account: string, key: string, fill: number) =>
      store.transaction((t) =>
        once(t, account, { key, fingerprint: fingerprint(fill) }, () => Promise.resolve(++runs))
      );
    deepEqual(await ask("alice", "k", 1), { answer: 1, repeated: false });
    deepEqual(await ask("alice", "k", 1), { answer: 1, repeated: true });
    await rejects(ask("alice", "k", 2), IdempotencyKeyReusedError);
    deepEqual(
      await ask("bob", "k", 2),
      { answer: 2, repeated: false },
      "another account's key is another key",
    );
    await store.queries.updateTable("idempotency_keys").set({ expires_at: new Date(0) }).execute();
    deepEqual(await ask("alice", "k", 2), { answer: 3, repeated: false }, "after its time the key is free");
    const plain = () => store.transaction((t) => once(t, "alice", undefined, () => Promise.resolve(++runs)));
    deepEqual([(await plain()).answer, (await plain()).answer], [4, 5], "without a key each request counts");
  },
);

testOnEachStore("a request that was refused leaves its key free", async ({ store }) => {
  const request = { key: "k", fingerprint: fingerprint(1) };
  await rejects(
    store.transaction((t) => once(t, "alice", request, () => Promise.reject(new Error("no credit")))),
    /no credit/,
  );
  const { repeated } = await store.transaction((t) =>
    once(t, "alice", request, () => Promise.resolve("fine"))
  );
  equal(repeated, false);
});

testOnEachStore("keys that are over are forgotten", async ({ store }) => {
  await using room = await openTestRoom(store);
  const idempotency = { key: "k", fingerprint: fingerprint(1) };
  await accept(room, { ...requestFrom("alice"), idempotency });
  await sweep(room);
  equal((await store.queries.selectFrom("idempotency_keys").selectAll().execute()).length, 1);
  await store.queries.updateTable("idempotency_keys").set({ expires_at: new Date(0) }).execute();
  await sweep(room);
  equal((await store.queries.selectFrom("idempotency_keys").selectAll().execute()).length, 0);
});

testOnServer(
  "a hundred retries at once over two instances: one generation, one charge",
  async ({ store, another }) => {
    await using room = await openTestRoom(store);
    await using otherStore = await another!();
    await using other = await openTestRoom(otherStore);
    const idempotency = { key: "k", fingerprint: fingerprint(1) };
    const answers = await Promise.all(
      Array.from(
        { length: 100 },
        (_, n) => accept(n % 2 ? room : other, { ...requestFrom("alice"), idempotency }),
      ),
    );
    equal(
      new Set(answers.map(({ id }) => id)).size,
      1,
    );
    equal(answers.filter(({ repeated }) => !repeated).length, 1);
    const account = await store.queries.selectFrom("accounts").selectAll().executeTakeFirstOrThrow();
    deepEqual([account.reserved, account.available], [requestPrice, 1000 - requestPrice]);
  },
);

testOnEachStore("a key lives for 24 hours", async ({ store }) => {
  const request = { key: "k", fingerprint: fingerprint(1) };
  const claim = () => store.transaction((t) => once(t, "alice", request, () => Promise.resolve("answer")));
  await store.transaction(async (transaction) => {
    await once(transaction, "alice", request, () => Promise.resolve("answer"));
    const { rows } = await sql<{ seconds: number }>`
      select extract(epoch from expires_at - now())::int as seconds from idempotency_keys
    `.execute(transaction);
    deepEqual(rows, [{ seconds: 86_400 }]);
  });
  const pass = (time: string) =>
    sql`update idempotency_keys set expires_at = expires_at - ${time}::interval`.execute(store.queries);
  await pass("23 hours 59 minutes");
  equal((await claim()).repeated, true);
  await pass("1 minute");
  equal((await claim()).repeated, false);
});
