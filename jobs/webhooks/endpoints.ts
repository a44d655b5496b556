/** Where accounts want to hear of their generations, and the secrets that sign what they hear. */

import { type Selectable, sql } from "kysely";
import type { Sealer } from "../../store/sealing.ts";
import type { WebhookEndpointsTable } from "../../store/schema.ts";
import type { Queries } from "../../store/store.ts";

/** Endpoints of one account at most. */
export const mostEndpoints = 10;

/** How long a secret that was replaced still signs. */
const overlapHours = 24;

/** The account has {@linkcode mostEndpoints} already. */
export class TooManyEndpointsError extends Error {
  override readonly name = "TooManyEndpointsError";
}

/** An endpoint without its secrets. */
export type Endpoint = Pick<Selectable<WebhookEndpointsTable>, "id" | "url" | "created_at" | "disabled_at">;

/** An endpoint with its secret, shown only when it is made. */
export interface NewSecret {
  readonly endpoint: Endpoint;
  /** `whsec_` and base64 of 32 random bytes, as Standard Webhooks has it */
  readonly secret: string;
}

const columns = ["id", "url", "created_at", "disabled_at"] as const;

function drawSecret(): string {
  return `whsec_${crypto.getRandomValues(new Uint8Array(32)).toBase64()}`;
}

/** Encrypts a secret for one endpoint. */
function sealSecret(sealer: Sealer, endpoint: string, secret: string): Promise<Uint8Array<ArrayBuffer>> {
  return sealer.seal(new TextEncoder().encode(secret), endpoint);
}

/**
 * Adds an endpoint.
 *
 * @param transaction in which the account's row is locked, so that the limit holds
 * @param sealer encrypts the secret
 * @param account whose
 * @param url checked by `refusalOf`
 * @returns the endpoint and its secret
 * @throws {TooManyEndpointsError} at the limit
 */
export async function addEndpoint(
  transaction: Queries,
  sealer: Sealer,
  account: string,
  url: string,
): Promise<NewSecret> {
  if ((await listEndpoints(transaction, account)).length >= mostEndpoints) {
    throw new TooManyEndpointsError(`An account has at most ${mostEndpoints} endpoints.`);
  }
  const id = `whe_${crypto.randomUUID()}`;
  const secret = drawSecret();
  const endpoint = await transaction.insertInto("webhook_endpoints").values({
    id,
    account_id: account,
    url,
    secret: await sealSecret(sealer, id, secret),
    previous_secret: null,
    previous_until: null,
    oldest_secret: null,
    oldest_until: null,
    disabled_at: null,
  }).returning(columns).executeTakeFirstOrThrow();
  return { endpoint, secret };
}

/** The account's endpoints, oldest first. */
export function listEndpoints(queries: Queries, account: string): Promise<Endpoint[]> {
  return queries.selectFrom("webhook_endpoints").select(columns).where("account_id", "=", account)
    .orderBy("created_at").orderBy("id").execute();
}

/** Removes an endpoint and its messages. @returns false when the account has none of that name */
export async function removeEndpoint(queries: Queries, account: string, id: string): Promise<boolean> {
  const removed = await queries.deleteFrom("webhook_endpoints").where("id", "=", id).where(
    "account_id",
    "=",
    account,
  )
    .returning("id").executeTakeFirst();
  return removed !== undefined;
}

/**
 * Gives an endpoint a new secret; the one before signs beside it for a day. So does the oldest one whose day is not over:
 * when an answer was lost and the secret is replaced once more, it may be the only one that the customer holds.
 *
 * @param transaction to do it in
 * @param sealer encrypts the secret
 * @param account whose
 * @param id of the endpoint
 * @returns the new secret, or undefined when the account has no such endpoint; an endpoint that was switched off is on again
 */
export async function rotateSecret(
  transaction: Queries,
  sealer: Sealer,
  account: string,
  id: string,
): Promise<NewSecret | undefined> {
  const secret = drawSecret();
  const oldest = (column: "secret" | "until") =>
    sql.raw(`case when oldest_until > now() then oldest_${column} else previous_${column} end`);
  const endpoint = await transaction.updateTable("webhook_endpoints").set({
    oldest_secret: sql<Uint8Array | null>`${oldest("secret")}`,
    oldest_until: sql<Date | null>`${oldest("until")}`,
    previous_secret: sql`secret`,
    previous_until: sql<Date>`now() + make_interval(hours => ${overlapHours}::int)`,
    secret: await sealSecret(sealer, id, secret),
    disabled_at: null,
  }).where("id", "=", id).where("account_id", "=", account).returning(columns).executeTakeFirst();
  return endpoint === undefined ? undefined : { endpoint, secret };
}

/**
 * Opens the secrets that sign for an endpoint now.
 *
 * @param sealer holds the keys
 * @param row of the endpoint
 * @param now to tell whether those before still sign
 * @returns one to three secrets, the current one first
 */
export async function signingSecrets(
  sealer: Sealer,
  row: Selectable<WebhookEndpointsTable>,
  now: Date,
): Promise<string[]> {
  const before = [
    { secret: row.previous_secret, until: row.previous_until },
    { secret: row.oldest_secret, until: row.oldest_until },
  ];
  const sealed = [row.secret];
  for (const { secret, until } of before) {
    if (secret !== null && until !== null && until > now) sealed.push(secret);
  }
  return await Promise.all(
    sealed.map(async (secret) => new TextDecoder().decode(await sealer.open(secret, row.id))),
  );
}
