/** A database that the release before last left, with what was under way there. */

import { deepEqual, equal } from "node:assert/strict";
import { sql } from "kysely";
import { accept } from "../../jobs/accept.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { runGenerations } from "../../jobs/run.ts";
import { sweep } from "../../jobs/sweep.ts";
import { deliverWebhooks, listMessages, replayMessage } from "../../jobs/webhooks/deliver.ts";
import { compareSchema, migrate } from "../../store/migrate.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { ControlledExecutor, openTestRoom, requestFrom } from "./test_room.ts";
import { carriers, endOne, options, Receiver, soon, subscribe, until } from "./webhooks_receiver.ts";
import { waitForEnd } from "./wait_for_end.ts";

/** Takes back what the newest migrations added, and brings the database forward again. */
async function migrateFromBefore({ store: { queries } }: JobsRoom): Promise<void> {
  await sql`alter table generations drop column turn`.execute(queries);
  await sql`drop index webhook_messages_pending`.execute(queries);
  await sql`alter table webhook_messages drop column queue_id`.execute(queries);
  await sql`delete from kysely_migration where name > '0008'`.execute(queries);
  deepEqual((await compareSchema(queries)).pending, ["0008_webhook_backlog", "0009_turns"]);
  await migrate(queries);
  deepEqual((await compareSchema(queries)).pending, []);
}

testOnEachStore("what waited before a migration is made, before what came after", async ({ store }) => {
  await using room = await openTestRoom(store);
  const before = [await accept(room, requestFrom("alice")), await accept(room, requestFrom("bob"))];
  await migrateFromBefore(room);
  const after = await accept(room, requestFrom("alice"));
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  for (const { id } of [...before, after]) {
    const run = await executor.next();
    equal(run.assignment.id, id);
    run.succeed();
    await waitForEnd(room, id, new AbortController().signal);
  }
});

testOnEachStore("messages from before a migration arrive once, sent again or not", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new Receiver([200]);
  await subscribe(room, "alice", receiver.url);
  for (let n = 0; n < 3; n++) await endOne(room, "alice");
  await migrateFromBefore(room);
  const [late, replayed, untouched] = (await listMessages(room, "alice")).map(({ id }) => id);
  await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) })
    .where("id", "=", late!).execute();
  await sweep(room);
  await replayMessage(room, "alice", replayed!);

  const stop = await deliverWebhooks(room, options);
  const arrived = [await soon(receiver.next()), await soon(receiver.next())];
  deepEqual(new Set(arrived.map(({ headers }) => headers["webhook-id"])), new Set([replayed, untouched]));
  await until(async () => (await carriers(room)).length === 0 || undefined);
  await stop();
  equal(receiver.arrived, 0);
  deepEqual(
    (await listMessages(room, "alice")).map(({ state, last_result }) => [state, last_result]),
    [["failed", "expired"], ["delivered", "200"], ["delivered", "200"]],
  );
});
