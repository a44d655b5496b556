import { equal } from "node:assert/strict";
import { accept } from "../../jobs/accept.ts";
import { runGenerations } from "../../jobs/run.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { ControlledExecutor, openTestRoom, requestFrom } from "./test_room.ts";
import { waitForEnd } from "./wait_for_end.ts";

testOnEachStore(
  "while models change, a generation and its usage tell the one that made it, not the one it was asked of",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const { id } = await accept(room, { ...requestFrom("alice"), model: "old-model" });
    const executor = new ControlledExecutor("new-model");
    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    (await executor.next()).succeed();
    equal((await waitForEnd(room, id, new AbortController().signal)).model, "new-model");
    const usage = await store.queries.selectFrom("usage_events").selectAll().executeTakeFirstOrThrow();
    equal(JSON.stringify(usage).includes("new-model"), true);
  },
);
