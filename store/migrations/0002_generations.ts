/** Generations: a state machine that the database enforces, with its money, its inputs and its pictures. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  `create table generations (
    id text primary key,
    account_id text not null references accounts,
    key_id text not null,
    request_id text not null,
    state text not null default 'queued'
      check (state in ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')),
    model text not null,
    images integer not null check (images > 0),
    steps integer not null check (steps > 0),
    pixels integer not null check (pixels > 0),
    price bigint not null check (price >= 0),
    attempt integer not null default 0,
    message_id uuid not null,
    failure jsonb,
    timings jsonb,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    deadline timestamptz not null,
    expires_at timestamptz,
    constraint generations_failure check ((failure is not null) = (state = 'failed')),
    constraint generations_finished check
      (num_nonnulls(finished_at, expires_at) =
        case when state in ('succeeded', 'failed', 'canceled', 'expired') then 2 else 0 end)
  )`,
  "create index generations_by_account on generations (account_id, created_at)",
  "create index generations_open on generations (account_id) where state in ('queued', 'running')",
  "create index generations_waiting on generations (deadline) where state = 'queued'",
  "create index generations_charged on generations (account_id, finished_at) where state = 'succeeded'",
  "alter table transfers add foreign key (generation_id) references generations deferrable initially deferred",
  `create table generation_inputs (
    generation_id text primary key references generations on delete cascade,
    sealed bytea not null
  )`,
  `create table generation_images (
    generation_id text not null references generations on delete cascade,
    index integer not null,
    seed bigint not null,
    content_type text not null,
    width integer not null,
    height integer not null,
    identity_similarity double precision,
    expires_at timestamptz not null,
    primary key (generation_id, index)
  )`,
  "create index generation_images_by_expiry on generation_images (expires_at)",
  `create table image_blobs (
    key text primary key,
    data bytea not null,
    expires_at timestamptz not null
  )`,
  // pictures are compressed already
  "alter table image_blobs alter column data set storage external",
  "create index image_blobs_by_expiry on image_blobs (expires_at)",
  `create function check_generation_step() returns trigger language plpgsql as $$
  begin
    if old.state = new.state and old.state = 'running' and new.attempt > old.attempt then
      return new;
    end if;
    if old.state <> new.state and not (
      (old.state = 'queued' and new.state in ('running', 'failed', 'canceled', 'expired')) or
      (old.state = 'running' and new.state in ('queued', 'succeeded', 'failed', 'canceled', 'expired'))
    ) then
      raise exception 'a generation does not go from % to %', old.state, new.state using errcode = 'check_violation';
    end if;
    if old.state in ('succeeded', 'failed', 'canceled', 'expired') then
      -- it may be forgotten earlier than was said, and that is all
      if (to_jsonb(new) - 'expires_at') = (to_jsonb(old) - 'expires_at') and new.expires_at <= old.expires_at then
        return new;
      end if;
      raise exception 'a generation that is over does not change' using errcode = 'check_violation';
    end if;
    if new.state in ('succeeded', 'failed', 'canceled', 'expired') then
      delete from generation_inputs where generation_id = new.id;
    end if;
    return new;
  end $$`,
  `create trigger generations_step before update on generations
    for each row execute function check_generation_step()`,
  // at commit: what is open has its price reserved, what is over has it captured or released
  `create function check_generation_money() returns trigger language plpgsql as $$
  declare
    final text;
    settled text;
  begin
    select state into final from generations where id = new.id;
    if not exists (select from transfers where generation_id = new.id and kind = 'reserve' and amount = new.price) then
      raise exception 'the price of % is not reserved', new.id using errcode = 'check_violation';
    end if;
    select kind into settled from transfers where generation_id = new.id and kind in ('capture', 'release');
    if settled is distinct from (case final
      when 'queued' then null when 'running' then null when 'succeeded' then 'capture' else 'release' end)
    then
      raise exception 'the charge of % does not fit its state', new.id using errcode = 'check_violation';
    end if;
    return null;
  end $$`,
  `create constraint trigger generations_money after insert or update of state on generations
    deferrable initially deferred for each row execute function check_generation_money()`,
];
