/** Account keys in both databases: what holds between instances, and what the database itself refuses. */

import { deepEqual, equal, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { lockAccount } from "../../billing/ledger.ts";
import { addAccountKey, findAccountKey, revokeAccountKey, useToken } from "../../jobs/account_keys.ts";
import { sweep } from "../../jobs/sweep.ts";
import type { Store } from "../../store/store.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom } from "./test_room.ts";

const jwk = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };

function addKey(store: Store, numbers: Readonly<Record<string, string>> = jwk) {
  return store.transaction(async (transaction) => {
    await lockAccount(transaction, "owner", 0);
    return await addAccountKey(transaction, "owner", {
      name: "k",
      algorithm: "EdDSA",
      jwk: numbers,
      scope: "models:read",
    });
  });
}

const inAnHour = () => new Date(Date.now() + 3_600_000);

testOnEachStore("a token is used up once, over all instances", async ({ store, another }) => {
  await using other = await another?.();
  const { id } = await addKey(store);
  for (let round = 0; round < 5; round++) {
    const uses = await Promise.all(
      Array.from(
        { length: 20 },
        (_, n) => useToken((n % 2 === 0 ? store : other ?? store).queries, id, `jti-${round}`, inAnHour()),
      ),
    );
    equal(uses.filter((used) => used).length, 1);
  }
});

testOnEachStore("a revocation holds on every instance at once, and for ever", async ({ store, another }) => {
  await using other = await another?.();
  const { id } = await addKey(store);
  const there = other ?? store;
  deepEqual((await findAccountKey(there.queries, id))?.jwk, jwk);
  equal(await revokeAccountKey(store.queries, "stranger", id), false);
  equal((await findAccountKey(there.queries, id))?.revoked_at, null);
  equal(await revokeAccountKey(store.queries, "owner", id), true);
  equal((await findAccountKey(there.queries, id))?.revoked_at instanceof Date, true);
  await rejects(
    store.queries.updateTable("account_keys").set({ revoked_at: null }).where("id", "=", id).execute(),
    /only changes by being revoked/,
  );
});

testOnEachStore("the database keeps no private key, and no key changes hands", async ({ store }) => {
  await rejects(
    addKey(store, { ...jwk, d: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A" }),
    /check constraint/,
  );
  const { id } = await addKey(store);
  await store.transaction((transaction) => lockAccount(transaction, "thief", 0));
  await rejects(
    store.queries.updateTable("account_keys").set({ account_id: "thief" }).where("id", "=", id).execute(),
    /only changes by being revoked/,
  );
});

testOnEachStore("what the sweep cannot do holds up nothing else", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { id } = await addKey(store);
  await useToken(store.queries, id, "over", new Date(Date.now() - 1000));
  const queries = new Proxy(store.queries, {
    get: (target, name) => {
      if (name === "deleteFrom") {
        return (table: "idempotency_keys") => {
          if (table === "idempotency_keys") throw new Error("no room left");
          return target.deleteFrom(table);
        };
      }
      const member = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
  const failing = Object.create(store, { queries: { value: queries } }) as typeof store;
  await rejects(sweep({ ...room, store: failing }), /no room left/);
  deepEqual(await store.queries.selectFrom("used_tokens").select("jti").execute(), []);
});

testOnEachStore(
  "used tokens are remembered until they expire, revoked keys for a week",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const { id } = await addKey(store);
    await useToken(store.queries, id, "over", new Date(Date.now() - 1000));
    await useToken(store.queries, id, "alive", inAnHour());
    await sweep(room);
    equal(await useToken(store.queries, id, "alive", inAnHour()), false);
    equal((await store.queries.selectFrom("used_tokens").select("jti").execute()).length, 1);
    await store.queries.updateTable("account_keys").set({ revoked_at: sql<Date>`now() - interval '8 days'` })
      .where("id", "=", id).execute();
    await sweep(room);
    equal(await findAccountKey(store.queries, id), undefined);
  },
);
