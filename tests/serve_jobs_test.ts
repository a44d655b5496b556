import { deepEqual, equal, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { openStoreAndQueue } from "../serve_jobs.ts";
import { connectServerStore, openServerStore } from "../store/server_store.ts";
import { testOnServer } from "./store/each_store.ts";

testOnServer("a queue that cannot be opened leaves no connection behind", async ({ server }) => {
  const url = await server.createDatabase();
  const name = new URL(url).pathname.slice(1);
  {
    await using store = await openServerStore({ url });
    // what another program left where pg-boss keeps its tables
    await sql`create schema queue`.execute(store.queries);
    await sql`create table queue.version (something_else text)`.execute(store.queries);
  }
  let opened = 0;
  await rejects(openStoreAndQueue(() => {
    opened++;
    return openServerStore({ url });
  }, () => {}));
  equal(opened, 1);
  await using onlooker = connectServerStore({ url: server.address("postgres"), connections: 1 });
  const connections = async () => {
    const { rows } = await sql`select application_name from pg_stat_activity where datname = ${name}`
      .execute(onlooker.queries);
    return rows;
  };
  // the server takes its time to see that somebody left
  for (let looks = 0; looks < 100 && (await connections()).length > 0; looks++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  deepEqual(await connections(), []);
});
