/** Accounts' own public keys, tokens that were used up, and whose end user a generation was made for. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  `create table account_keys (
    id text primary key,
    account_id text not null references accounts,
    name text not null check (length(name) between 1 and 100),
    algorithm text not null check (algorithm in ('ES256', 'EdDSA', 'RS256')),
    jwk jsonb not null check (not jwk ?| array['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']),
    scope text not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
  )`,
  "create index account_keys_by_account on account_keys (account_id, created_at)",
  "create index account_keys_by_revocation on account_keys (revoked_at) where revoked_at is not null",
  // revoking is for ever, and a key that was shown under an id is never another one
  `create function keep_account_key() returns trigger language plpgsql as $$
  begin
    if new.id <> old.id or new.account_id <> old.account_id or new.jwk <> old.jwk or new.scope <> old.scope
      or old.revoked_at is not null then
      raise exception 'an account key only changes by being revoked' using errcode = 'check_violation';
    end if;
    return new;
  end $$`,
  `create trigger account_keys_stay before update on account_keys
    for each row execute function keep_account_key()`,
  `create table used_tokens (
    key_id text not null references account_keys on delete cascade,
    jti text not null check (length(jti) between 1 and 255),
    expires_at timestamptz not null,
    primary key (key_id, jti)
  )`,
  "create index used_tokens_by_expiry on used_tokens (expires_at)",
  "alter table generations add column end_user text check (length(end_user) between 1 and 128)",
];
