/** An instance at work: takes queued generations, runs them, renews their leases, and settles them. */

import { type RawBuilder, sql } from "kysely";
import { type GenerateEvent, type GenerateOutput, PipelineError } from "../pipeline/protocol.ts";
import { persist, rest } from "../store/persist.ts";
import type { Message } from "../store/queue.ts";
import { ObjectStoreError } from "../store/unavailable.ts";
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
  /** pauses between tries to keep pictures that the image store did not take, in milliseconds; then the generation fails */
  readonly imagePauses?: readonly number[];
  /** hears of every fault that is not the request's; the generation is tried again, or fails for want of an image store */
  readonly onFault?: (id: string, error: unknown) => void;
  /** hears of every generation that is begun again because an instance died or a run failed; not of those handed back */
  readonly onBegunAgain?: (id: string) => void;
}

/** Long enough for a service that is started again. */
const usualImagePauses: readonly number[] = [500, 1000, 2000, 4000, 8000, 16_000];

/** How long handing back may take when the database cannot be reached; after that the lease has to run out. */
const handBackMilliseconds = 3_000;

/** How much longer than its grace a stop takes, whatever hangs. */
const mostStopMilliseconds = 5_000;

/** An instance at work; `await using` has it hand back what runs. */
export interface Running extends AsyncDisposable {
  /**
   * Takes no more, and after `graceMilliseconds` hands back what still runs. What can neither be settled nor handed back
   * within seconds, for want of the database, is taken over by another instance when its lease has run out.
   *
   * @returns the ids of those that were handed back
   */
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

/** Marks the start; a generation that is over, canceled meanwhile, or no longer this worker's is not started. */
async function start(
  room: JobsRoom,
  id: string,
  model: string,
  held: RawBuilder<boolean>,
): Promise<StartedRow | undefined> {
  return await room.store.queries.updateTable("generations").set({
    state: "running",
    model,
    attempt: sql<number>`attempt + 1`,
    started_at: sql<Date>`coalesce(started_at, now())`,
  }).where("id", "=", id).where("state", "in", ["queued", "running"]).where(held).returningAll()
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
    await room.queue.send(transaction, generationQueue, { id: row.id }, { id: message, priority: -row.turn });
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
  const {
    concurrency,
    progressMilliseconds = 200,
    imagePauses = usualImagePauses,
    onFault = () => {},
    onBegunAgain = () => {},
  } = options;
  const draining = new AbortController();
  const worker: { stop?: () => Promise<void> } = {};
  const handedBack: string[] = [];

  const tellEvents = (id: string) => {
    let last = -Infinity;
    return (event: GenerateEvent) => {
      // a portrait is told when it is paid: who cancels before that has none
      if (event.type === "image") return;
      room.notices.tellHere({ id, event });
      if (event.type !== "progress") return;
      if (performance.now() - last < progressMilliseconds) return;
      last = performance.now();
      // a notice that is lost is no loss: the next one says more
      room.notices.announce(room.store.queries, { id, progress: event.progress }).catch(() => {});
    };
  };

  const run = async ({ data: { id }, signal, held, failedTries }: Message<Carried>) => {
    // how long an outage of the database is seen through
    const stay = AbortSignal.any([signal, draining.signal]);
    // the embedded database has but one process: what that one took it holds, and to ask would cost milliseconds
    let condition = room.store.kind === "server" ? held : sql<boolean>`true`;
    const row = await persist(() => {
      const started = start(room, id, executor.model, condition);
      condition = held;
      return started;
    }, { signal: stay });
    if (row === undefined) return;
    if (failedTries > 0) onBegunAgain(id);
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
      await succeed(room, row, withQueueTime(output, row), { signal: stay, imagePauses });
    } catch (thrown) {
      if (signal.aborted || over.signal.aborted) return;
      if (draining.signal.aborted) {
        const leave = AbortSignal.any([signal, AbortSignal.timeout(handBackMilliseconds)]);
        await persist(() => handBack(room, row), { signal: leave });
        handedBack.push(id);
        return;
      }
      const error = late.signal.aborted ? late.signal.reason : thrown;
      if (error instanceof PipelineError && !faultsOfOurs.includes(error.code)) {
        const { code, message, details } = error;
        return void await persist(() => fail(room, row, { code, message, details }), { signal: stay });
      }
      if (!(error instanceof ObjectStoreError)) throw error;
      // the portraits were made, and would only be made again for the same
      onFault(id, error);
      const message = "The portraits could not be kept: the image store cannot be reached";
      await persist(() => fail(room, row, { code: "image_store_unavailable", message, details: {} }), {
        signal: stay,
      });
    } finally {
      clearTimeout(timer);
      unsubscribe();
    }
  };

  const handle = async (message: Message<Carried>) => {
    try {
      await run(message);
    } catch (error) {
      onFault(message.data.id, error);
      // a dead worker needs a new process: more generations would only waste their tries here
      if (error instanceof PipelineError && error.code === "worker_failed") void worker.stop?.();
      // the queue keeps what it is told, and a message may quote the request
      throw new Error(error instanceof Error ? error.name : "fault");
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
      const ended = new AbortController();
      void Promise.allSettled([stopTaking(), stopGivingUp()]).then(() => ended.abort());
      await rest(graceMilliseconds + mostStopMilliseconds, ended.signal);
      clearTimeout(timer);
      return handedBack;
    })();
  return { stop, [Symbol.asyncDispose]: async () => void await stop(0) };
}
