/** Leases that run out without anybody having to wait for it. */

import { sql } from "kysely";
import type { JobsRoom } from "../../jobs/room.ts";
import { delay } from "../delay.ts";

/**
 * Waits, while a generation's lease looks as if its process had been gone for longer than that.
 *
 * @param room of an instance that is alive
 * @param id of the generation
 * @param awaited what happens once another has taken it over
 * @returns what was awaited
 */
export async function whileAging<T>(room: JobsRoom, id: string, awaited: Promise<T>): Promise<T> {
  const taken = awaited.then((value) => ({ value }));
  while (true) {
    await sql`
      update queue.job set heartbeat_on = now() - interval '1 hour', start_after = least(start_after, now())
      where data->>'id' = ${id}
    `.execute(room.store.queries);
    await sql`update queue.queue set monitor_on = null`.execute(room.store.queries);
    await room.queue.supervise();
    const result = await Promise.race([taken, delay(50)]);
    if (typeof result === "object") return result.value;
  }
}
