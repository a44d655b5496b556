import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { openEmbeddedStore, StoreInUseError } from "../../store/embedded_store.ts";
import { migrate } from "../../store/migrate.ts";
import { openServerStore } from "../../store/server_store.ts";
import { isStoreUnavailable } from "../../store/unavailable.ts";
import { openTestStore, testOnEachStore, testOnServer } from "./each_store.ts";

testOnEachStore("values come back as they went in", async ({ store: { queries } }) => {
  const bytes = Uint8Array.of(0, 1, 255);
  const { rows: [row] } = await sql<Record<string, unknown>>`
    select ${bytes}::bytea as bytes, ${2 ** 40}::bigint as whole, ${0.25}::double precision as fraction,
      ${
    JSON.stringify({ a: [1, null] })
  }::jsonb as json, sum(2::bigint)::bigint as total, null::text as nothing,
      timestamptz '2026-01-02T03:04:05Z' as time
  `.execute(queries);
  deepEqual({ ...row, bytes: new Uint8Array(row?.bytes as Uint8Array) }, {
    bytes,
    whole: 2 ** 40,
    fraction: 0.25,
    json: { a: [1, null] },
    total: 2,
    nothing: null,
    time: new Date("2026-01-02T03:04:05Z"),
  });
});

testOnServer("bytes come back from a database that writes them as escapes", async ({ store }) => {
  const bytes = Uint8Array.of(0, 92, 120, 255);
  const row = await store.transaction(async (transaction) => {
    await sql`set local bytea_output = 'escape'`.execute(transaction);
    return (await sql<{ bytes: Uint8Array }>`select ${bytes}::bytea as bytes`.execute(transaction)).rows[0];
  });
  deepEqual(new Uint8Array(row!.bytes), bytes);
});

testOnEachStore("a transaction takes effect as a whole or not at all", async ({ store }) => {
  await rejects(
    store.transaction(async (transaction) => {
      await transaction.insertInto("accounts").values({ id: "a" }).execute();
      throw new Error("changed my mind");
    }),
    /changed my mind/,
  );
  deepEqual(await store.queries.selectFrom("accounts").select("id").execute(), []);
  await store.transaction(async (transaction) => {
    await transaction.insertInto("accounts").values({ id: "a" }).execute();
    await transaction.insertInto("accounts").values({ id: "b" }).execute();
  });
  equal((await store.queries.selectFrom("accounts").select("id").execute()).length, 2);
});

testOnEachStore("migrating again changes nothing", async ({ store }) => {
  await store.queries.insertInto("accounts").values({ id: "a" }).execute();
  await migrate(store.queries);
  equal((await store.queries.selectFrom("accounts").select("id").execute()).length, 1);
});

Deno.test("the embedded database vacuums and analyses what has changed", async () => {
  await using store = await openTestStore();
  const { queries } = store;
  const statistics = async (table: string) => {
    const { rows } = await sql<{ rows: number; dead: number; passes: number }>`
      select reltuples::int as rows, n_dead_tup::int as dead, vacuum_count::int as passes
      from pg_stat_user_tables join pg_class on pg_class.oid = relid where relid = ${table}::regclass
    `.execute(queries);
    return rows[0];
  };
  await sql`insert into accounts (id) select 'account-' || n from generate_series(1, 200) n`.execute(queries);
  await sql`update accounts set id = id || 'x'`.execute(queries);
  await sql`select pg_stat_force_next_flush()`.execute(queries);
  equal((await statistics("accounts"))?.dead, 200);
  const before = await statistics("generations");
  await store.maintain();
  deepEqual(await statistics("accounts"), { rows: 200, dead: 0, passes: 1 });
  await store.maintain();
  equal((await statistics("accounts"))?.passes, 1, "nothing has changed since");
  deepEqual(await statistics("generations"), before);
});

Deno.test("the embedded database keeps what it was told, and takes one process at a time", async () => {
  const folder = await Deno.makeTempDir();
  {
    await using store = await openEmbeddedStore(`${folder}/db`);
    await store.queries.insertInto("accounts").values({ id: "kept" }).execute();
    await rejects(openEmbeddedStore(`${folder}/db`), StoreInUseError);
  }
  {
    await using store = await openEmbeddedStore(`${folder}/db`);
    deepEqual(await store.queries.selectFrom("accounts").select("id").execute(), [{ id: "kept" }]);
  }
  await Deno.remove(folder, { recursive: true });
});

testOnServer("instances that start together migrate once", async ({ server }) => {
  const url = await server.createDatabase();
  const stores = await Promise.all([1, 2, 3].map(() => openServerStore({ url })));
  await stores[0]!.queries.insertInto("accounts").values({ id: "a" }).execute();
  equal((await stores[2]!.queries.selectFrom("accounts").select("id").execute()).length, 1);
  for (const store of stores) await store[Symbol.asyncDispose]();
});

testOnServer("an outage is told as such, and over when it is over", async ({ store, server }) => {
  await store.queries.insertInto("accounts").values({ id: "before" }).execute();
  const cut = store.transaction(async (transaction) => {
    await transaction.insertInto("accounts").values({ id: "cut" }).execute();
    await server.stop();
    await transaction.insertInto("accounts").values({ id: "off" }).execute();
  });
  const error = await cut.then(() => undefined, (error) => error);
  ok(isStoreUnavailable(error), String(error));
  const refused = await store.queries.selectFrom("accounts").select("id").execute().catch((error) => error);
  ok(isStoreUnavailable(refused), String(refused));
  await rejects(openServerStore({ url: server.address("test_1") }), (error) => isStoreUnavailable(error));
  await server.start();
  deepEqual(await store.queries.selectFrom("accounts").select("id").execute(), [{ id: "before" }]);
});

testOnEachStore("a fault of ours is no outage", async ({ store }) => {
  const error = await sql`select * from nowhere`.execute(store.queries).catch((error) => error);
  equal(isStoreUnavailable(error), false);
});
