/** What cuts across requests: idempotency keys and rate limits. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  `create table idempotency_keys (
    account_id text not null,
    key text not null check (length(key) between 1 and 255),
    fingerprint bytea not null,
    answer jsonb,
    expires_at timestamptz not null,
    primary key (account_id, key)
  )`,
  "create index idempotency_keys_by_expiry on idempotency_keys (expires_at)",
  // a crash of the server empties it, which costs nobody anything
  `create unlogged table rate_limits (
    account_id text primary key,
    tokens double precision not null,
    updated_at timestamptz not null
  )`,
];
