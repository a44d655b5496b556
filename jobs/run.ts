/** An instance at work: takes queued generations, runs them, renews their leases, and settles them. */

import { sql } from "kysely";
import { type GenerateEvent, type GenerateOutput, PipelineError } from "../pipeline/protocol.ts";
import { persist } from "../store/persist.ts";
import type { Message } from "../store/queue.ts";
import type { Executor } from "./executor.ts";
import { isTerminal } from "./notices.ts";
import { generationQueue, type JobsRoom, poisonQueue } from "./room.ts";
import { openInput } from "./sealed_input.ts";
import { fail, type GenerationRow, succeed } from "./settle.ts";

/** What {@linkcode runGenerations} takes. */
export interface RunOptions {
  /** generations at a time */
  readonly concurrency: number;
  /** least time between two notices of progress to other instances, in milliseconds */
  readonly progressMilliseconds?: number;
  /** hears of every fault that is not the request's; the generation is tried again */
  readonly onFault?: (id: string, error: unknown) => void;
}

/** An instance at work; `await using` has it hand back what runs. */
export interface Running extends AsyncDisposable {
  /** Takes no more, and after `graceMilliseconds` hands back what still runs. @returns the ids of those */
  stop(graceMilliseconds: number): Promise<readonly string[]>;
}

type Carried = { readonly id: string };

/** Codes of a {@linkcode PipelineError} that are not the request's fault. */
const faultsOfOurs: readonly string[] = [
  "internal_error",
  "worker_failed",
  "canceled",
  "queue_full",
  "shutting_down",
];

/** A generation that has been started, and what it is made from. */
type StartedRow = GenerationRow & { readonly sealed: Uint8Array | null };

/** Marks the start; a generation that is over, or canceled meanwhile, is not started. */
async function start(room: JobsRoom, id: string): Promise<StartedRow | undefined> {
  return await room.store.queries.updateTable("generations").set({
    state: "running",
    attempt: sql<number>`attempt + 1`,
    started_at: sql<Date>`coalesce(started_at, now())`,
  }).where("id", "=", id).where("state", "in", ["queued", "running"]).returningAll()
    .returning((row) =>
      row.selectFrom("generation_inputs").select("sealed").where("generation_id", "=", id).as("sealed")
    )
    .returning(room.notices.announcement({ id, state: "running" }).as("announced")).executeTakeFirst();
}

/** The engine knows how long a generation waited for it; before that it waited for an instance. */
function withQueueTime(output: GenerateOutput, { created_at, started_at }: GenerationRow): GenerateOutput {
  const waited = started_at === null ? 0 : Math.max(0, (started_at.getTime() - created_at.getTime()) / 1000);
  const { queue, total, ...stages } = output.timings;
  return { ...output, timings: { ...stages, queue: queue + waited, total: total + waited } };
}

/** Puts a generation back for another instance; the try does not count. */
async function handBack(room: JobsRoom, row: GenerationRow): Promise<void> {
  await room.store.transaction(async (transaction) => {
    const message = crypto.randomUUID();
    const updated = await transaction.updateTable("generations").set({ state: "queued", message_id: message })
      .where("id", "=", row.id).where("state", "=", "running").where("attempt", "=", row.attempt)
      .returning("id").executeTakeFirst();
    if (updated === undefined) return;
    await room.queue.complete(transaction, generationQueue, row.message_id);
    await room.queue.send(transaction, generationQueue, { id: row.id }, message);
  });
}

/**
 * Gives back what an earlier process was running. Only on a database that takes one process at a time: whoever ran it then
 * is dead, and nobody needs to wait for its lease to run out.
 *
 * @param room the jobs room, before this process runs anything
 */
export async function recoverRunning(room: JobsRoom): Promise<void> {
  if (room.store.kind !== "embedded") return;
  const rows = await room.store.queries.selectFrom("generations").select("message_id").where(
    "state",
    "=",
    "running",
  )
    .execute();
  await room.queue.abandon(generationQueue, rows.map(({ message_id }) => message_id));
}

/**
 * Starts taking generations.
 *
 * @param room the jobs room
 * @param executor runs them
 * @param options how many at a time
 * @returns the instance at work
 */
export async function runGenerations(
  room: JobsRoom,
  executor: Executor,
  options: RunOptions,
): Promise<Running> {
  const { concurrency, progressMilliseconds = 200, onFault = () => {} } = options;
  const draining = new AbortController();
  const worker: { stop?: () => Promise<void> } = {};
  const handedBack: string[] = [];

  const tellEvents = (id: string) => {
    let last = -Infinity;
    return (event: GenerateEvent) => {
      room.notices.tellHere({ id, event });
      if (event.type !== "progress") return;
      if (performance.now() - last < progressMilliseconds) return;
      last = performance.now();
      // a notice that is lost is no loss: the next one says more
      room.notices.announce(room.store.queries, { id, progress: event.progress }).catch(() => {});
    };
  };

  const handle = async ({ data: { id }, signal }: Message<Carried>) => {
    const row = await start(room, id);
    if (row === undefined) return;
    const over = new AbortController();
    const late = new AbortController();
    const timer = setTimeout(() => {
      const seconds = room.settings.timeoutSeconds;
      const message = `The generation did not finish within ${seconds} seconds`;
      late.abort(new PipelineError("deadline_exceeded", message, { seconds }));
    }, Math.max(0, row.deadline.getTime() - Date.now()));
    const unsubscribe = room.notices.subscribe(id, (notice) => {
      if (notice?.state !== undefined && isTerminal(notice.state)) over.abort();
    });
    try {
      if (row.sealed === null) return;
      const output = await executor.run(
        { id, ...await openInput(room.sealer, id, row.sealed) },
        AbortSignal.any([signal, over.signal, late.signal, draining.signal]),
        tellEvents(id),
      );
      unsubscribe();
      // by the lease's end another instance may have started it: then this comes too late, and does nothing
      await persist(() => succeed(room, row, withQueueTime(output, row)), { signal });
    } catch (thrown) {
      if (draining.signal.aborted) {
        handedBack.push(id);
        return await handBack(room, row);
      }
      if (signal.aborted || over.signal.aborted) return;
      const error = late.signal.aborted ? late.signal.reason : thrown;
      if (error instanceof PipelineError && !faultsOfOurs.includes(error.code)) {
        const { code, message, details } = error;
        await persist(() => fail(room, row, { code, message, details }), { signal });
        return;
      }
      onFault(id, error);
      // a dead worker needs a new process: more generations would only waste their tries here
      if (error instanceof PipelineError && error.code === "worker_failed") void worker.stop?.();
      // the queue keeps what it is told, and a message may quote the request
      throw new Error(error instanceof Error ? error.name : "fault");
    } finally {
      clearTimeout(timer);
      unsubscribe();
    }
  };

  const stopTaking = worker.stop = await room.queue.work<Carried>(generationQueue, concurrency, handle);
  const stopGivingUp = await room.queue.work<Carried>(poisonQueue, 1, async ({ data: { id } }) => {
    await fail(room, { id }, {
      code: "worker_failed",
      message: "The generation was started several times and never came to an end.",
      details: {},
    });
  });

  let stopped: Promise<readonly string[]> | undefined;
  const stop = (graceMilliseconds: number) =>
    stopped ??= (async () => {
      const timer = setTimeout(() => draining.abort(), graceMilliseconds);
      await Promise.all([stopTaking(), stopGivingUp()]);
      clearTimeout(timer);
      return handedBack;
    })();
  return { stop, [Symbol.asyncDispose]: async () => void await stop(0) };
}
