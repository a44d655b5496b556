/** Pictures in the database itself: the default, nothing else to run. */

import { sql } from "kysely";
import { type Queries, withoutWaiting } from "../store/store.ts";
import type { ImageStore } from "./image_store.ts";

/** Pictures that one statement removes at most: it must not take as long as an outage. */
const batch = 500;

/**
 * Keeps pictures in the table `image_blobs`.
 *
 * @param queries to run on
 * @returns the store
 */
export function keepImagesInPostgres(queries: Queries): ImageStore {
  return {
    async put(images) {
      if (images.length === 0) return;
      await queries.insertInto("image_blobs")
        .values(images.map(({ key, data, expiresAt }) => ({ key, data, expires_at: expiresAt })))
        .onConflict((conflict) =>
          conflict.column("key").doUpdateSet((row) => ({
            data: row.ref("excluded.data"),
            expires_at: row.ref("excluded.expires_at"),
          }))
        )
        // the row that names them is committed afterwards
        .returning(withoutWaiting.as("settings")).execute();
    },
    async get(key) {
      const row = await queries.selectFrom("image_blobs").select("data")
        .where("key", "=", key).where("expires_at", ">", sql<Date>`now()`).executeTakeFirst();
      return row === undefined ? undefined : new Uint8Array(row.data);
    },
    async remove(keys) {
      if (keys.length > 0) await queries.deleteFrom("image_blobs").where("key", "in", [...keys]).execute();
    },
    async removeExpired() {
      while (true) {
        const { numDeletedRows } = await queries.deleteFrom("image_blobs").where(
          "key",
          "in",
          (from) =>
            from.selectFrom("image_blobs").select("key").where("expires_at", "<=", sql<Date>`now()`).limit(
              batch,
            ),
        )
          .executeTakeFirst();
        if (numDeletedRows < batch) return;
      }
    },
  };
}
