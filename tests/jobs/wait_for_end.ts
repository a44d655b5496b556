/** Waits for generations, whichever instance runs them. */

import { isTerminal, type NoticeListener } from "../../jobs/notices.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import type { GenerationRow } from "../../jobs/settle.ts";

/**
 * Reads a generation.
 *
 * @param room the jobs room
 * @param id which
 * @param account whose; left out, anybody's
 * @returns the row, or undefined when the account has none of that name
 */
export async function findGeneration(
  room: JobsRoom,
  id: string,
  account?: string,
): Promise<GenerationRow | undefined> {
  let query = room.store.queries.selectFrom("generations").selectAll().where("id", "=", id);
  if (account !== undefined) query = query.where("account_id", "=", account);
  return await query.executeTakeFirst();
}

/**
 * Waits until a generation is over.
 *
 * @param room the jobs room
 * @param id which
 * @param signal gives up waiting; the generation goes on
 * @param onNotice hears its news meanwhile
 * @returns the row in its last state
 * @throws the signal's reason, or whatever kept the row from being read
 */
export async function waitForEnd(
  room: JobsRoom,
  id: string,
  signal: AbortSignal,
  onNotice: NoticeListener = () => {},
): Promise<GenerationRow> {
  const { promise, resolve, reject } = Promise.withResolvers<GenerationRow>();
  const look = async () => {
    const row = await findGeneration(room, id);
    if (row === undefined) throw new Error(`there is no generation ${id}`);
    if (isTerminal(row.state)) resolve(row);
  };
  const giveUp = () => reject(signal.reason);
  // first listen, then look: nothing can happen unnoticed in between
  const unsubscribe = room.notices.subscribe(id, (notice) => {
    onNotice(notice);
    if (notice === undefined || (notice.state !== undefined && isTerminal(notice.state))) {
      look().catch(reject);
    }
  });
  signal.addEventListener("abort", giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    await look();
    return await promise;
  } finally {
    // whoever looked may have thrown before anybody waited for this
    promise.catch(() => {});
    unsubscribe();
    signal.removeEventListener("abort", giveUp);
  }
}
