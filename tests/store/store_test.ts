import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { openEmbeddedStore, StoreInUseError } from "../../store/embedded_store.ts";
import { migrate } from "../../store/migrate.ts";
import { openServerStore } from "../../store/server_store.ts";
import { persist } from "../../store/persist.ts";
import { isStoreUnavailable, ObjectStoreError } from "../../store/unavailable.ts";
import { openTestStore, testOnEachStore, testOnServer } from "./each_store.ts";
import { ServerLink } from "./server_link.ts";

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

testOnServer("a connection that goes dead is told as an outage, and not used again", async ({ server }) => {
  const url = await server.createDatabase();
  using link = new ServerLink(Number(new URL(url).port));
  await using store = await openServerStore({ url: link.through(url), connections: 1, answerSeconds: 1 });
  await store.queries.insertInto("accounts").values({ id: "before" }).execute();
  link.freeze();
  const error = await store.queries.selectFrom("accounts").select("id").execute().catch((error) => error);
  ok(isStoreUnavailable(error), String(error));
  // one connection is all it may have: this must be a new one
  deepEqual(await store.queries.selectFrom("accounts").select("id").execute(), [{ id: "before" }]);
  const cut = await store.transaction(async (transaction) => {
    await transaction.insertInto("accounts").values({ id: "cut" }).execute();
    link.freeze();
    await transaction.insertInto("accounts").values({ id: "lost" }).execute();
  }).catch((error) => error);
  ok(isStoreUnavailable(cut), String(cut));
  deepEqual(await store.queries.selectFrom("accounts").select("id").execute(), [{ id: "before" }]);
});

testOnServer(
  "a statement that takes too long is ended by the server, and told as an outage",
  async ({ server }) => {
    const url = await server.createDatabase();
    await using store = await openServerStore({ url, answerSeconds: 1 });
    const error = await sql`select pg_sleep(60)`.execute(store.queries).catch((error) => error);
    equal(error.code, "57014");
    ok(isStoreUnavailable(error));
    const { rows } =
      await sql`select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'`
        .execute(store.queries);
    deepEqual(rows, []);
  },
);

Deno.test("an object store that refuses connections is no outage of the database", () => {
  const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  ok(isStoreUnavailable(refused));
  ok(isStoreUnavailable(new Error("a query failed", { cause: refused })));
  equal(isStoreUnavailable(new ObjectStoreError("a picture could not be kept", { cause: refused })), false);
});

Deno.test("who sees an outage through stops at once when told to", async () => {
  const outage = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  const leave = new AbortController();
  const tried = Promise.withResolvers<void>();
  let tries = 0;
  const work = () => {
    tries++;
    tried.resolve();
    return Promise.reject(outage);
  };
  // a pause that would outlast the test
  const persisted = rejects(persist(work, { signal: leave.signal, pause: 2 ** 30 }), outage);
  await tried.promise;
  leave.abort();
  await persisted;
  equal(tries, 1);
  await rejects(persist(work, { signal: leave.signal, pause: 2 ** 30 }), outage);
});

testOnEachStore("a fault of ours is no outage", async ({ store }) => {
  const error = await sql`select * from nowhere`.execute(store.queries).catch((error) => error);
  equal(isStoreUnavailable(error), false);
});
