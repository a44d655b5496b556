/**
 * Requests that may be sent twice (draft-ietf-httpapi-idempotency-key-header): the first with a key takes effect and
 * leaves its answer, in one transaction; the same again gets that answer. A request that is refused leaves no trace.
 */

import { sql } from "kysely";
import type { JsonValue } from "../store/json.ts";
import type { Queries } from "../store/store.ts";

/** Same key, other request. */
export class IdempotencyKeyReusedError extends Error {
  override readonly name = "IdempotencyKeyReusedError";
  constructor() {
    super("The key was used before, with another request.");
  }
}

/** A request as its key's owner sees it. */
export interface IdempotentRequest {
  /** 1 to 255 characters */
  readonly key: string;
  /** SHA-256 of what was asked */
  readonly fingerprint: Uint8Array<ArrayBuffer>;
}

/** How long a key is remembered. */
const keyHours = 24;

/**
 * Has a request take effect once.
 *
 * A second request with the key waits here until the first one's transaction has ended.
 *
 * @param transaction in which the request takes effect
 * @param account keys of different accounts have nothing to do with each other
 * @param request key and fingerprint; undefined when the caller sent no key, then `effect` just runs
 * @param effect what the request does; its answer is what is remembered
 * @returns the answer: this one's or the first one's
 * @throws {IdempotencyKeyReusedError} when the key belongs to another request
 */
export async function once<Answer extends JsonValue>(
  transaction: Queries,
  account: string,
  request: IdempotentRequest | undefined,
  effect: () => Promise<Answer>,
): Promise<{ readonly answer: Answer; readonly repeated: boolean }> {
  if (request === undefined) return { answer: await effect(), repeated: false };
  const { key, fingerprint } = request;
  const { rows: [claimed] } = await sql`
    insert into idempotency_keys (account_id, key, fingerprint, expires_at)
    values (${account}, ${key}, ${fingerprint}, now() + make_interval(hours => ${keyHours}::int))
    on conflict (account_id, key) do update
      set fingerprint = excluded.fingerprint, answer = null, expires_at = excluded.expires_at
      where idempotency_keys.expires_at <= now()
    returning key
  `.execute(transaction);
  const row = () =>
    transaction.selectFrom("idempotency_keys").where("account_id", "=", account).where("key", "=", key);
  if (claimed === undefined) {
    const first = await row().select(["fingerprint", "answer"]).executeTakeFirstOrThrow();
    if (new Uint8Array(first.fingerprint).toHex() !== fingerprint.toHex()) {
      throw new IdempotencyKeyReusedError();
    }
    return { answer: first.answer as Answer, repeated: true };
  }
  const answer = await effect();
  await transaction.updateTable("idempotency_keys").set({ answer: JSON.stringify(answer) })
    .where("account_id", "=", account).where("key", "=", key).execute();
  return { answer, repeated: false };
}
