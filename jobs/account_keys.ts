/** Accounts' own public keys, and the tokens signed with them that were used up. */

import { type Selectable, sql } from "kysely";
import type { AccountKeysTable } from "../store/schema.ts";
import type { Queries } from "../store/store.ts";

/** Keys of one account that are not revoked, at most: enough to rotate several. */
export const mostAccountKeys = 10;

/** What ids of keys look like. */
const keyId = /^key_[0-9a-f-]{36}$/;

/** The account has {@linkcode mostAccountKeys} already. */
export class TooManyAccountKeysError extends Error {
  override readonly name = "TooManyAccountKeysError";
}

/** A key's row. */
export type AccountKey = Selectable<AccountKeysTable>;

/** A key to be added, checked. */
export type NewAccountKey = Pick<AccountKey, "name" | "algorithm" | "jwk" | "scope">;

/**
 * Lists an account's keys that are not revoked.
 *
 * @param queries to read with
 * @param account whose
 * @returns the keys, oldest first
 */
export function listAccountKeys(queries: Queries, account: string): Promise<AccountKey[]> {
  return queries.selectFrom("account_keys").selectAll().where("account_id", "=", account)
    .where("revoked_at", "is", null).orderBy("created_at").orderBy("id").execute();
}

/**
 * Adds a key.
 *
 * @param transaction in which the account's row is locked, so that the limit holds
 * @param account whose
 * @param key a public one
 * @returns its row
 * @throws {TooManyAccountKeysError} at the limit
 */
export async function addAccountKey(
  transaction: Queries,
  account: string,
  key: NewAccountKey,
): Promise<AccountKey> {
  if ((await listAccountKeys(transaction, account)).length >= mostAccountKeys) {
    throw new TooManyAccountKeysError(`An account has at most ${mostAccountKeys} keys.`);
  }
  return await transaction.insertInto("account_keys").values({
    ...key,
    id: `key_${crypto.randomUUID()}`,
    account_id: account,
    jwk: JSON.stringify(key.jwk),
    revoked_at: null,
  }).returningAll().executeTakeFirstOrThrow();
}

/**
 * Revokes a key: from the next request on, on every instance, its tokens are refused.
 *
 * @param queries to do it with
 * @param account whose
 * @param id of the key
 * @returns false when the account has no such key, or has revoked it
 */
export async function revokeAccountKey(queries: Queries, account: string, id: string): Promise<boolean> {
  const revoked = await queries.updateTable("account_keys").set({ revoked_at: sql<Date>`now()` })
    .where("id", "=", id).where("account_id", "=", account).where("revoked_at", "is", null)
    .returning("id").executeTakeFirst();
  return revoked !== undefined;
}

/**
 * Finds the key that a token names.
 *
 * @param queries to read with
 * @param id the token's `kid`
 * @returns the key, revoked or not; undefined when there is none, or it was revoked days ago
 */
export function findAccountKey(queries: Queries, id: string): Promise<AccountKey | undefined> {
  // nobody has signed the name yet: what can be none is not asked for
  if (!keyId.test(id)) return Promise.resolve(undefined);
  return queries.selectFrom("account_keys").selectAll().where("id", "=", id).executeTakeFirst();
}

/**
 * Uses up a token, once over all instances.
 *
 * @param queries to do it with
 * @param key that signed it
 * @param jti the token's name, 1 to 255 characters
 * @param expiresAt when the token is refused for its age, and need not be remembered
 * @returns false when it was used before
 */
export async function useToken(
  queries: Queries,
  key: string,
  jti: string,
  expiresAt: Date,
): Promise<boolean> {
  const used = await queries.insertInto("used_tokens").values({ key_id: key, jti, expires_at: expiresAt })
    .onConflict((conflict) => conflict.doNothing()).returning("jti").executeTakeFirst();
  return used !== undefined;
}
