/** Reads generations and their pictures back from where they are kept. */

import { sql } from "kysely";
import type { GeneratedImage, StageTimings } from "../pipeline/protocol.ts";
import type { Generation, GenerationFailure } from "./generation.ts";
import { imageKey } from "./image_store.ts";
import { isTerminal } from "./notices.ts";
import type { JobsRoom } from "./room.ts";
import type { GenerationRow } from "./settle.ts";
import { FINAL_EVENT } from "./generation_record.ts";

/** What a row's state means to whoever asked, where the row has no failure of its own. */
const endings: Partial<Record<GenerationRow["state"], GenerationFailure>> = {
  canceled: { code: "canceled", message: "The generation was canceled", details: {} },
  expired: {
    code: "deadline_exceeded",
    message: "The generation waited too long to be started",
    details: {},
  },
};

async function readImages(room: JobsRoom, id: string): Promise<GeneratedImage[]> {
  const rows = await room.store.queries.selectFrom("generation_images").selectAll()
    .where("generation_id", "=", id).orderBy("index").execute();
  const images = await Promise.all(rows.map(async (row) => {
    const data = await room.images.get(imageKey(id, row.index));
    return data === undefined ? undefined : {
      index: row.index,
      seed: row.seed,
      contentType: row.content_type as GeneratedImage["contentType"],
      width: row.width,
      height: row.height,
      data,
      identitySimilarity: row.identity_similarity,
    };
  }));
  return images.filter((image) => image !== undefined);
}

/**
 * A generation as its row has it.
 *
 * @param row of the generation
 * @param images of a generation that succeeded
 * @returns the generation
 */
export function fromRow(row: GenerationRow, images: readonly GeneratedImage[]): Generation {
  return {
    id: row.id,
    account: row.account_id,
    requestId: row.request_id,
    model: row.model,
    numImages: row.images,
    numInferenceSteps: row.steps,
    price: row.price,
    createdAt: row.created_at,
    status: row.state,
    progress: null,
    images,
    timings: row.timings as StageTimings | null,
    failure: (row.failure as GenerationFailure | null) ?? endings[row.state] ?? null,
    expiresAt: row.expires_at,
    lastEvent: isTerminal(row.state) ? FINAL_EVENT : 0,
  };
}

/**
 * A generation as the database has it.
 *
 * @param room the jobs room
 * @param row of the generation
 * @returns the generation, with its pictures when it succeeded
 */
export async function describe(room: JobsRoom, row: GenerationRow): Promise<Generation> {
  return fromRow(row, row.state === "succeeded" ? await readImages(room, row.id) : []);
}

/**
 * Reads a generation's row.
 *
 * @param room the jobs room
 * @param id which
 * @param account whose; left out, anybody's
 * @returns the row, or undefined when the account has none of that name, or no longer
 */
export async function findRow(
  room: JobsRoom,
  id: string,
  account?: string,
): Promise<GenerationRow | undefined> {
  let query = room.store.queries.selectFrom("generations").selectAll().where("id", "=", id)
    .where((where) =>
      where.or([where("expires_at", "is", null), where("expires_at", ">", sql<Date>`now()`)])
    );
  if (account !== undefined) query = query.where("account_id", "=", account);
  return await query.executeTakeFirst();
}

/**
 * Counts what waits for an instance.
 *
 * @param room the jobs room
 * @returns queued generations of all accounts
 */
export async function countWaiting(room: JobsRoom): Promise<number> {
  const { waiting } = await room.store.queries.selectFrom("generations").select(
    sql<number>`count(*)::int`.as("waiting"),
  )
    .where("state", "=", "queued").executeTakeFirstOrThrow();
  return waiting;
}
