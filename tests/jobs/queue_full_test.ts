import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { accept } from "../../jobs/accept.ts";
import { runGenerations } from "../../jobs/run.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { ControlledExecutor, openTestRoom, requestFrom } from "./test_room.ts";
import { findGeneration, waitForEnd } from "./wait_for_end.ts";

const never = new AbortController().signal;

testOnEachStore(
  "a full queue takes nobody, and says when a place is likely to be free",
  async ({ store }) => {
    await using room = await openTestRoom(store, { mostQueued: 2 });
    const executor = new ControlledExecutor();
    const refusal = async (): Promise<Record<string, number | string>> => {
      const error = await accept(room, requestFrom("bob")).catch((error) => error);
      if (!(error instanceof PipelineError)) throw error;
      return { ...error.details, code: error.code };
    };
    // nobody takes any yet; one more than may wait is on its way to an instance
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.push((await accept(room, requestFrom("alice"))).id);
    deepEqual(await refusal(), { code: "queue_full", limit: 2, retry_after_seconds: 1 });
    await rejects(accept(room, requestFrom("alice")), { code: "queue_full" });
    equal((await findGeneration(room, ids[2]!))?.state, "queued");

    await using _running = await runGenerations(room, executor, { concurrency: 1 });
    const first = await executor.next();
    // as if it had begun a while ago
    const began = new Date(Date.now() - 40_000);
    await store.queries.updateTable("generations").set({ started_at: began }).where(
      "id",
      "=",
      first.assignment.id,
    ).execute();
    first.succeed();
    await waitForEnd(room, first.assignment.id, never);
    await executor.next();
    // one runs and one waits
    for (let i = 0; i < 2; i++) await accept(room, requestFrom("carol"));
    const seconds = Number((await refusal()).retry_after_seconds);
    ok(seconds >= 40 && seconds <= 60, `${seconds} s`);
  },
);

testOnEachStore(
  "the last places of the queue are kept for who has nothing queued or running",
  async ({ store }) => {
    await using room = await openTestRoom(store, { mostQueued: 4 });
    const full = (limit: number) => (error: unknown) =>
      error instanceof PipelineError && error.code === "queue_full" && error.details?.limit === limit;
    // two busy accounts come to a few places less than there are
    for (const account of ["alice", "bob", "alice", "bob"]) await accept(room, requestFrom(account));
    await rejects(accept(room, requestFrom("alice")), full(3));
    await rejects(accept(room, requestFrom("bob")), full(3));
    await accept(room, requestFrom("carol"));
    await rejects(accept(room, requestFrom("dave")), full(4));
  },
);
