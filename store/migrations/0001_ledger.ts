/** Accounts, and a ledger that the database itself keeps balanced. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  `create table accounts (
    id text primary key check (length(id) between 1 and 255),
    available bigint not null default 0 check (available >= 0),
    reserved bigint not null default 0 check (reserved >= 0),
    spent bigint not null default 0 check (spent >= 0),
    funded bigint not null default 0,
    created_at timestamptz not null default now(),
    constraint accounts_balanced check (available + reserved + spent = funded)
  )`,
  `create table transfers (
    id bigint generated always as identity primary key,
    account_id text not null references accounts,
    kind text not null,
    debit text not null,
    credit text not null,
    amount bigint not null check (amount >= 0),
    generation_id text,
    actor text,
    note text,
    created_at timestamptz not null default now(),
    constraint transfers_kind check ((kind, debit, credit) in (
      ('top_up', 'funded', 'available'),
      ('adjustment', 'funded', 'available'),
      ('adjustment', 'available', 'funded'),
      ('reserve', 'available', 'reserved'),
      ('capture', 'reserved', 'spent'),
      ('release', 'reserved', 'available')
    )),
    constraint transfers_generation check ((generation_id is not null) = (kind in ('reserve', 'capture', 'release')))
  )`,
  "create index transfers_by_account on transfers (account_id, id)",
  "create unique index transfers_reserved_once on transfers (generation_id) where kind = 'reserve'",
  "create unique index transfers_settled_once on transfers (generation_id) where kind in ('capture', 'release')",
  `create function apply_transfer() returns trigger language plpgsql as $$
  begin
    if new.kind in ('capture', 'release') and not exists (
      select from transfers where generation_id = new.generation_id and kind = 'reserve' and amount = new.amount
        and account_id = new.account_id
    ) then
      raise exception 'nothing like this was reserved' using errcode = 'check_violation';
    end if;
    -- funded holds what the operator was given: it grows when it is debited, the other three when they are credited
    update accounts set
      funded = funded + case when new.debit = 'funded' then new.amount when new.credit = 'funded' then -new.amount else 0 end,
      available = available + case when new.credit = 'available' then new.amount when new.debit = 'available' then -new.amount else 0 end,
      reserved = reserved + case when new.credit = 'reserved' then new.amount when new.debit = 'reserved' then -new.amount else 0 end,
      spent = spent + case when new.credit = 'spent' then new.amount when new.debit = 'spent' then -new.amount else 0 end
    where id = new.account_id;
    return null;
  end $$`,
  "create trigger transfers_apply after insert on transfers for each row execute function apply_transfer()",
  `create function refuse_change() returns trigger language plpgsql as $$
  begin
    raise exception 'the ledger is only ever added to' using errcode = 'check_violation';
  end $$`,
  "create trigger transfers_stay before update or delete on transfers for each row execute function refuse_change()",
];
