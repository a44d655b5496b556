/** The tables as Kysely sees them; `migrations/` makes them. Amounts are whole credits, times are `timestamptz`. */

import type { ColumnType, Generated } from "kysely";

/** A time the database sets, which may be changed afterwards. */
type Time = ColumnType<Date, Date | undefined, Date>;
/** JSON: written as text, read as a value. */
type Json<T> = ColumnType<T, string, string>;

/** States of a generation; a trigger allows no other steps than those of {@linkcode terminalStates}' docs. */
export type GenerationState = "queued" | "running" | TerminalState;

/** States nothing leads out of. */
export type TerminalState = "succeeded" | "failed" | "canceled" | "expired";

/** Every {@linkcode TerminalState}: queued leads to running and all but succeeded, running to all. */
export const terminalStates = [
  "succeeded",
  "failed",
  "canceled",
  "expired",
] as const satisfies TerminalState[];

/** Why a generation failed, as a problem of the API tells it. */
export interface GenerationFailure {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, number | string>>;
}

/** Whoever pays: four ledger accounts whose entries cancel out, `available + reserved + spent = funded`. */
export interface AccountsTable {
  id: string;
  available: Generated<number>;
  reserved: Generated<number>;
  spent: Generated<number>;
  funded: Generated<number>;
  created_at: Time;
}

/** One movement of the ledger: `amount` leaves `debit` and arrives at `credit`. */
export interface TransfersTable {
  id: Generated<number>;
  account_id: string;
  kind: "top_up" | "adjustment" | "reserve" | "capture" | "release";
  debit: LedgerAccount;
  credit: LedgerAccount;
  amount: number;
  generation_id: string | null;
  /** who asked for a top-up or an adjustment, and why */
  actor: string | null;
  note: string | null;
  created_at: Time;
}

/** One of an account's four ledger accounts. */
export type LedgerAccount = "funded" | "available" | "reserved" | "spent";

/** One accepted request. */
export interface GenerationsTable {
  id: string;
  account_id: string;
  /** the client the token was issued to, for usage by key */
  key_id: string;
  /** whom of the account's own users it was made for, where the token says so */
  end_user: string | null;
  /** names the HTTP request that asked for it */
  request_id: string;
  state: Generated<GenerationState>;
  model: string;
  /** pictures */
  images: number;
  /** denoising steps of one picture */
  steps: number;
  /** of one picture */
  pixels: number;
  /** credits */
  price: number;
  /** counts the starts; whoever holds the latest may settle */
  attempt: Generated<number>;
  /** the queue's message that carries it */
  message_id: string;
  /** when it is taken from the queue: the lower, the sooner; of equals, first come first served */
  turn: Generated<number>;
  failure: Json<GenerationFailure> | null;
  timings: Json<Readonly<Record<string, number>>> | null;
  created_at: Time;
  started_at: Date | null;
  finished_at: Date | null;
  /** when it expires, should it still be queued, and fails, should it still run */
  deadline: Date;
  /** when it and its pictures are no longer shown */
  expires_at: Date | null;
}

/** Prompt and photos of a generation that is not over, encrypted. */
export interface GenerationInputsTable {
  generation_id: string;
  sealed: Uint8Array;
}

/** One finished picture; its bytes lie in the image store. */
export interface GenerationImagesTable {
  generation_id: string;
  index: number;
  seed: number;
  content_type: string;
  width: number;
  height: number;
  identity_similarity: number | null;
  expires_at: Date;
}

/** Bytes of pictures, where Postgres is the image store. */
export interface ImageBlobsTable {
  key: string;
  data: Uint8Array;
  expires_at: Date;
}

/** What was answered to a request that carried an `Idempotency-Key`. */
export interface IdempotencyKeysTable {
  account_id: string;
  key: string;
  /** SHA-256 of the request */
  fingerprint: Uint8Array;
  answer: Json<unknown>;
  expires_at: Date;
}

/** A token bucket an account. */
export interface RateLimitsTable {
  account_id: string;
  tokens: number;
  updated_at: Date;
}

/** Usage still to be told to the operator's billing. */
export interface UsageEventsTable {
  id: string;
  generation_id: string;
  /** the CloudEvent, byte for byte */
  body: string;
  created_at: Time;
  delivered_at: Date | null;
}

/** Where an account wants to hear of its generations. */
export interface WebhookEndpointsTable {
  id: string;
  account_id: string;
  url: string;
  /** current secret, encrypted */
  secret: Uint8Array;
  /** the one before, encrypted; still signs until `previous_until` */
  previous_secret: Uint8Array | null;
  previous_until: Date | null;
  /** the oldest that has been replaced and still signs, until `oldest_until`, should it not be the one before */
  oldest_secret: Uint8Array | null;
  oldest_until: Date | null;
  disabled_at: Date | null;
  created_at: Time;
}

/** One event for one endpoint. */
export interface WebhookMessagesTable {
  id: string;
  endpoint_id: string;
  account_id: string;
  type: string;
  /** what is sent, byte for byte */
  body: string;
  state: Generated<"pending" | "delivered" | "failed">;
  attempts: Generated<number>;
  /** how the last attempt ended: an HTTP status, or a reason such as `address_refused`; or why there was none */
  last_result: string | null;
  created_at: Time;
  /** when it is given up */
  deliver_until: Date;
  /** the queue's message that carries it, or carried it last; unknown of those that earlier releases sent */
  queue_id: string | null;
}

/** A public key whose tokens speak for an account. */
export interface AccountKeysTable {
  /** `kid` of its tokens */
  id: string;
  account_id: string;
  name: string;
  algorithm: "ES256" | "EdDSA" | "RS256";
  /** public JWK, RFC 7517 */
  jwk: Json<Readonly<Record<string, string>>>;
  /** most its tokens may be allowed, words separated by spaces */
  scope: string;
  created_at: Time;
  revoked_at: Date | null;
}

/** A token with a `jti` that has been used. */
export interface UsedTokensTable {
  key_id: string;
  jti: string;
  /** from then on the token is refused for its age */
  expires_at: Date;
}

/** All tables. */
export interface Schema {
  accounts: AccountsTable;
  transfers: TransfersTable;
  generations: GenerationsTable;
  generation_inputs: GenerationInputsTable;
  generation_images: GenerationImagesTable;
  image_blobs: ImageBlobsTable;
  idempotency_keys: IdempotencyKeysTable;
  rate_limits: RateLimitsTable;
  usage_events: UsageEventsTable;
  webhook_endpoints: WebhookEndpointsTable;
  webhook_messages: WebhookMessagesTable;
  account_keys: AccountKeysTable;
  used_tokens: UsedTokensTable;
}
