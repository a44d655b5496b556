/** What leaves the service: usage for the operator's billing, webhooks for its customers. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  `create table usage_events (
    id text primary key,
    generation_id text not null unique references generations,
    body text not null,
    created_at timestamptz not null default now(),
    delivered_at timestamptz
  )`,
  "create index usage_events_waiting on usage_events (created_at) where delivered_at is null",
  `create table webhook_endpoints (
    id text primary key,
    account_id text not null references accounts,
    url text not null,
    secret bytea not null,
    previous_secret bytea,
    previous_until timestamptz,
    disabled_at timestamptz,
    created_at timestamptz not null default now()
  )`,
  "create index webhook_endpoints_by_account on webhook_endpoints (account_id)",
  `create table webhook_messages (
    id text primary key,
    endpoint_id text not null references webhook_endpoints on delete cascade,
    account_id text not null,
    type text not null,
    body text not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    attempts integer not null default 0,
    last_result text,
    created_at timestamptz not null default now(),
    deliver_until timestamptz not null
  )`,
  "create index webhook_messages_by_account on webhook_messages (account_id, created_at)",
  "create index webhook_messages_by_age on webhook_messages (created_at)",
  // a webhook's id stands for one body, for ever
  `create function keep_message() returns trigger language plpgsql as $$
  begin
    if new.id <> old.id or new.body <> old.body then
      raise exception 'a webhook message keeps its body' using errcode = 'check_violation';
    end if;
    return new;
  end $$`,
  `create trigger webhook_messages_stay before update on webhook_messages
    for each row execute function keep_message()`,
];
