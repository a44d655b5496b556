/**
 * How generations end: state, charge, usage and webhooks in one transaction, at most once. The queue's message is not part
 * of it: whoever gets one whose generation is over does nothing.
 */

import { type Insertable, type Selectable, sql } from "kysely";
import { settlements } from "../billing/ledger.ts";
import { recordUsage } from "../billing/usage_events.ts";
import type { GeneratedImage, GenerateOutput } from "../pipeline/protocol.ts";
import { persist, rest } from "../store/persist.ts";
import type {
  GenerationFailure,
  GenerationImagesTable,
  GenerationsTable,
  TerminalState,
} from "../store/schema.ts";
import { type Queries, withoutWaiting } from "../store/store.ts";
import { ObjectStoreError } from "../store/unavailable.ts";
import { imageKey, type StoredImage } from "./image_store.ts";
import { generationQueue, type JobsRoom } from "./room.ts";
import { announceByWebhook } from "./webhooks/announce.ts";

/** A generation's row. */
export type GenerationRow = Selectable<GenerationsTable>;

/** Which row may be settled: whoever started it last holds the latest attempt. */
interface Claim {
  readonly id: string;
  /** left out by those who need no claim: whoever cancels, and the clock */
  readonly attempt?: number;
  /** left out, whatever is not over */
  readonly from?: "queued" | "running";
}

/** What an end adds to the row. */
interface Ending {
  readonly state: TerminalState;
  readonly failure?: GenerationFailure;
  readonly timings?: Readonly<Record<string, number>>;
}

/**
 * How long after the end of a generation that did not succeed its pictures may still come to their store: longer than
 * all tries of a run that has not heard of the end take. Then the sweep removes them.
 */
const lastWriteMinutes = 5;

/** Sets the state and settles the charge, if the claim still holds, and has everybody hear of it. */
async function end(
  room: JobsRoom,
  transaction: Queries,
  claim: Claim,
  ending: Ending,
): Promise<GenerationRow | undefined> {
  const { state } = ending;
  const ended = await transaction
    .with("ended", (database) => {
      let update = database.updateTable("generations").set({
        state,
        finished_at: sql<Date>`now()`,
        expires_at: sql<Date>`now() + make_interval(secs => ${room.settings.resultSeconds})`,
        failure: ending.failure === undefined ? null : JSON.stringify(ending.failure),
        timings: ending.timings === undefined ? null : JSON.stringify(ending.timings),
      }).where("id", "=", claim.id);
      update = claim.from === undefined
        ? update.where("state", "in", ["queued", "running"])
        : update.where("state", "=", claim.from);
      if (claim.attempt !== undefined) update = update.where("attempt", "=", claim.attempt);
      return update.returningAll();
    })
    .with("settled", (database) => {
      const { kind, credit } = settlements[state];
      return database.insertInto("transfers")
        .columns(["account_id", "kind", "debit", "credit", "amount", "generation_id"])
        .expression(
          database.selectFrom("ended").select([
            "account_id",
            sql.lit(kind).as("kind"),
            sql.lit("reserved").as("debit"),
            sql.lit(credit).as("credit"),
            "price",
            "id",
          ]),
        );
    })
    .with("unwanted_images", (database) =>
      database.updateTable("generation_images")
        .set({
          expires_at: sql<Date>`least(expires_at, now() + make_interval(mins => ${lastWriteMinutes}::int))`,
        })
        .where("generation_id", "in", (from) =>
          from.selectFrom("ended").select("id").where("state", "<>", "succeeded")))
    .selectFrom("ended").selectAll().select([
      sql<string[]>`array(
        select id from webhook_endpoints where account_id = ended.account_id and disabled_at is null
        for key share
      )`.as("endpoints"),
      room.notices.announcement({ id: claim.id, state }).as("announced"),
    ]).executeTakeFirst();
  if (ended === undefined) return undefined;
  const { endpoints, announced: _announced, ...row } = ended;
  if (state === "succeeded" && room.settings.usageEvents) {
    await recordUsage(transaction, room.queue, {
      generation: row.id,
      account: row.account_id,
      key: row.key_id,
      model: row.model,
      images: row.images,
      steps: row.steps,
      pixels: row.pixels,
      credits: row.price,
      finishedAt: row.finished_at ?? new Date(0),
    });
  }
  await announceByWebhook(transaction, room.queue, row, endpoints);
  return row;
}

/**
 * Tells this process, now that it is true. A generation that was over already may have been ended by a try of this very
 * process whose commit had no answer: then nobody here has heard of it.
 */
function tell(
  room: JobsRoom,
  id: string,
  row: GenerationRow | undefined,
  images: readonly GeneratedImage[] = [],
): GenerationRow | undefined {
  if (row === undefined) room.notices.lookHere(id);
  else room.notices.tellHere({ id, state: row.state, ended: { row, images } });
  return row;
}

/** How long a success is tried to be written down; left out, once. */
export interface SucceedOptions {
  /** ends the tries */
  readonly signal?: AbortSignal;
  /** pauses between tries of an image store that is not the database, in milliseconds */
  readonly imagePauses?: readonly number[];
}

/** A picture's row. */
type ImageRow = Insertable<GenerationImagesTable>;

/**
 * Writes down which pictures are about to be kept, so that the sweep finds their bytes whatever becomes of this run. The
 * disk is not waited for: should the database itself die now, the generation still runs, and its next attempt writes it again.
 *
 * @returns whether the claim still holds; else nothing was written
 */
async function announceImages(
  room: JobsRoom,
  { id, attempt }: Required<Pick<Claim, "id" | "attempt">>,
  images: readonly ImageRow[],
): Promise<boolean> {
  const { rows } = await sql`
    with claimed as (
      select from generations where id = ${id} and state = 'running' and attempt = ${attempt} for share
    ), written as (
      insert into generation_images
      select image.* from claimed, jsonb_populate_recordset(null::generation_images, ${
    JSON.stringify(images)
  }) image
      on conflict (generation_id, index) do update set
        (seed, content_type, width, height, identity_similarity, expires_at) =
        (excluded.seed, excluded.content_type, excluded.width, excluded.height, excluded.identity_similarity,
          excluded.expires_at)
    )
    select ${withoutWaiting} as settings from claimed
  `.execute(room.store.queries);
  return rows.length > 0;
}

/** Keeps pictures; what their store does not take is tried again, so that nobody has to make them again. */
async function keepImages(
  room: JobsRoom,
  images: readonly StoredImage[],
  signal: AbortSignal,
  [pause, ...more]: readonly number[],
): Promise<void> {
  try {
    await persist(() => room.images.put(images), { signal });
  } catch (error) {
    if (!(error instanceof ObjectStoreError) || pause === undefined || signal.aborted) throw error;
    await rest(pause, signal);
    await keepImages(room, images, signal, more);
  }
}

/**
 * Ends a generation with its pictures.
 *
 * @param room the jobs room
 * @param claim which, and by which attempt it was made
 * @param output pictures and timings
 * @param options how long outages are seen through
 * @returns the row, or undefined when it was over already or another attempt took it
 * @throws {ObjectStoreError} when the pictures could not be kept
 */
export async function succeed(
  room: JobsRoom,
  claim: Required<Pick<Claim, "id" | "attempt">>,
  { images, timings }: GenerateOutput,
  { signal = AbortSignal.abort(), imagePauses = [] }: SucceedOptions = {},
): Promise<GenerationRow | undefined> {
  const { id } = claim;
  const expiresAt = new Date(Date.now() + room.settings.resultSeconds * 1000);
  const rows = images.map((image): ImageRow => ({
    generation_id: id,
    index: image.index,
    seed: image.seed,
    content_type: image.contentType,
    width: image.width,
    height: image.height,
    identity_similarity: image.identitySimilarity,
    expires_at: expiresAt,
  }));
  if (!await persist(() => announceImages(room, claim, rows), { signal })) return tell(room, id, undefined);
  const stored = images.map(({ index, contentType, data }) => ({
    key: imageKey(id, index),
    contentType,
    data,
    expiresAt,
  }));
  // the bytes before the end, wherever they go: a row that says "succeeded" has its pictures
  await keepImages(room, stored, signal, imagePauses);
  const settle = () =>
    room.store.transaction((transaction) =>
      end(room, transaction, { ...claim, from: "running" }, { state: "succeeded", timings: { ...timings } })
    );
  const row = await persist(settle, { signal });
  if (row === undefined) await persist(() => leaveToSweep(room, id, rows), { signal });
  return tell(room, id, row, images);
}

/**
 * Has the sweep remove pictures of a run that came too late, whose rows may be gone already; those of a run that came
 * first stay, unless they were erased meanwhile.
 */
async function leaveToSweep(room: JobsRoom, id: string, images: readonly ImageRow[]): Promise<void> {
  const now = sql<Date>`now()`;
  const wanted = await room.store.queries.selectFrom("generations").select("id").where("id", "=", id)
    .where((where) =>
      where.or([
        where("state", "in", ["queued", "running"]),
        where.and([where("state", "=", "succeeded"), where("expires_at", ">", now)]),
      ])
    ).executeTakeFirst();
  if (wanted !== undefined) return;
  await room.store.queries.insertInto("generation_images")
    .values(images.map((image) => ({ ...image, expires_at: now })))
    .onConflict((conflict) => conflict.columns(["generation_id", "index"]).doUpdateSet({ expires_at: now }))
    .execute();
}

/**
 * Ends a generation that cannot succeed.
 *
 * @param room the jobs room
 * @param claim which; with `attempt` only if no other has started since
 * @param failure why, as the caller is told
 * @returns the row, or undefined when it was over already or another attempt took it
 */
export async function fail(
  room: JobsRoom,
  claim: Claim,
  failure: GenerationFailure,
): Promise<GenerationRow | undefined> {
  return tell(
    room,
    claim.id,
    await room.store.transaction((transaction) =>
      end(room, transaction, claim, { state: "failed", failure })
    ),
  );
}

/**
 * Ends a generation that nobody waits for any more, running or not.
 *
 * @param room the jobs room
 * @param id which
 * @param state `canceled`, or `expired` when it waited too long to be started
 * @returns the row, or undefined when it was over already (or running, for `expired`)
 */
export async function withdraw(
  room: JobsRoom,
  id: string,
  state: "canceled" | "expired",
): Promise<GenerationRow | undefined> {
  return tell(
    room,
    id,
    await room.store.transaction(async (transaction) => {
      const row = await end(room, transaction, state === "expired" ? { id, from: "queued" } : { id }, {
        state,
      });
      if (row !== undefined) await room.queue.cancel(transaction, generationQueue, row.message_id);
      return row;
    }),
  );
}
