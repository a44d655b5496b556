import { deepEqual, equal, ok } from "node:assert/strict";
import { accept } from "../../jobs/accept.ts";
import { runGenerations } from "../../jobs/run.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { ControlledExecutor, openTestRoom, requestFrom } from "./test_room.ts";
import { waitForEnd } from "./wait_for_end.ts";

const never = new AbortController().signal;

testOnEachStore(
  "a generation that is not done by its deadline is ended, and costs nothing",
  async ({ store }) => {
    await using room = await openTestRoom(store, { timeoutSeconds: 1 });
    const executor = new ControlledExecutor();
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    const { id } = await accept(room, requestFrom("alice"));
    const run = await executor.next();
    const row = await waitForEnd(room, id, never);
    ok(run.signal.aborted, "whoever runs it is told");
    equal(row.state, "failed");
    equal(row.attempt, 1, "it is not tried again");
    equal(row.failure?.code, "deadline_exceeded");
    deepEqual(row.failure?.details, { seconds: 1 });
    const account = await store.queries.selectFrom("accounts").selectAll().executeTakeFirstOrThrow();
    deepEqual([account.available, account.reserved, account.spent], [1000, 0, 0]);
  },
);
