import { deepEqual, equal, rejects } from "node:assert/strict";
import { sql } from "kysely";
import { loadConfig } from "../config.ts";
import { openJobs, openStoreAndQueue } from "../serve_jobs.ts";
import { connectServerStore, openServerStore } from "../store/server_store.ts";
import { delay } from "./delay.ts";
import { ends, PATIENCE_MS } from "./jobs/ends.ts";
import { ControlledExecutor, requestFrom } from "./jobs/test_room.ts";
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

testOnServer(
  "an instance that stops waits for what another one runs, for whoever watches it here",
  async ({ server }) => {
    const environment = {
      DATABASE_URL: await server.createDatabase(),
      ENCRYPTION_KEYS: new Uint8Array(32).fill(1).toBase64(),
    };
    const config = loadConfig(environment, { cores: 1, workingDirectory: "/" });
    const open = () => openJobs(config, () => {}, () => {});
    const [stopping, other] = [await open(), await open()];
    const [idle, executor] = [new ControlledExecutor(), new ControlledExecutor()];
    await other.run(executor, 1);
    const { id } = await stopping.generations.submit(requestFrom("alice"));
    const run = await executor.next();
    const ended = (async () => {
      const types: string[] = [];
      for await (const { type } of await stopping.generations.watch("alice", id) ?? []) types.push(type);
      return types.at(-1);
    })();
    await stopping.run(idle, 1);
    const drained = stopping.drain(2 * PATIENCE_MS);
    // with nothing of its own to wait for, it would let go at once
    await Promise.race([drained, delay(1_000)]);
    run.succeed();
    equal(await ends(ended), "succeeded");
    await ends(drained);
    for (const jobs of [stopping, other]) await jobs.close();
  },
);
