/**
 * The ledger: double entry in whole credits. Each account has four ledger accounts: `funded` (given by the operator),
 * `available`, `reserved` (held for generations that are not over) and `spent`. A transfer moves credits from one to
 * another, and the database keeps `available + reserved + spent = funded` (see `store/migrations/0001_ledger.ts`).
 */

import type { Queries } from "../store/store.ts";
import type { AccountsTable, TerminalState, TransfersTable } from "../store/schema.ts";
import type { Insertable, Selectable } from "kysely";

/** The account cannot pay. */
export class InsufficientCreditError extends Error {
  override readonly name = "InsufficientCreditError";
  /**
   * @param price credits that are asked for
   * @param available credits that are there
   */
  constructor(readonly price: number, readonly available: number) {
    super(`The price is ${price} credits and ${available} are available.`);
  }
}

/** An account's balances. */
export type Account = Selectable<AccountsTable>;

/** A change of the operator's. */
export interface Grant {
  readonly account: string;
  /** what the account begins with, should this be the first that is heard of it */
  readonly initialCredit: number;
  /** credits; negative takes them back, and then it must be an adjustment */
  readonly amount: number;
  readonly kind: "top_up" | "adjustment";
  /** who asked for it */
  readonly actor: string;
  readonly note: string | null;
}

/**
 * Finds an account, opening it when this is the first that is heard of it, and holds its row until the transaction ends,
 * so that what is decided by its balance or its open generations stays true.
 *
 * @param transaction to lock in
 * @param id the token's `sub`
 * @param initialCredit credits a new account begins with
 * @returns its balances
 */
export async function lockAccount(transaction: Queries, id: string, initialCredit: number): Promise<Account> {
  const find = () =>
    transaction.selectFrom("accounts").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();
  const existing = await find();
  if (existing !== undefined) return existing;
  const { numInsertedOrUpdatedRows } = await transaction.insertInto("accounts").values({ id })
    .onConflict((conflict) => conflict.doNothing()).executeTakeFirst();
  if (numInsertedOrUpdatedRows === 1n && initialCredit > 0) {
    await transaction.insertInto("transfers").values({
      account_id: id,
      kind: "top_up",
      debit: "funded",
      credit: "available",
      amount: initialCredit,
      actor: "service",
      note: "initial credit",
    }).execute();
  }
  const account = await find();
  if (account === undefined) throw new Error("an account vanished");
  return account;
}

/** What becomes of a reserved price: a transfer's `kind`, and where it goes from `reserved`. */
export const settlements = {
  succeeded: { kind: "capture", credit: "spent" },
  failed: { kind: "release", credit: "available" },
  canceled: { kind: "release", credit: "available" },
  expired: { kind: "release", credit: "available" },
} as const satisfies Record<TerminalState, Pick<Insertable<TransfersTable>, "kind" | "credit">>;

/**
 * The transfer that holds the price of a generation, for the statement that makes its row. Its end captures or releases it
 * ({@linkcode settlements}).
 *
 * @param account locked by {@linkcode lockAccount}
 * @param generation its id
 * @param price credits
 * @returns a row of `transfers`
 * @throws {InsufficientCreditError} when the account cannot pay
 */
export function reservation(account: Account, generation: string, price: number): Insertable<TransfersTable> {
  if (account.available < price) throw new InsufficientCreditError(price, account.available);
  return {
    account_id: account.id,
    kind: "reserve",
    debit: "available",
    credit: "reserved",
    amount: price,
    generation_id: generation,
  };
}

/**
 * Gives an account credits, or takes them.
 *
 * @param transaction to do it in
 * @param grant how many, and who asks
 * @returns the balances afterwards
 * @throws {InsufficientCreditError} when more would be taken than is available
 */
export async function grant(transaction: Queries, grant: Grant): Promise<Account> {
  const { account, initialCredit, amount, kind, actor, note } = grant;
  const before = await lockAccount(transaction, account, initialCredit);
  if (before.available + amount < 0) throw new InsufficientCreditError(-amount, before.available);
  await transaction.insertInto("transfers").values({
    account_id: account,
    kind,
    debit: amount < 0 ? "available" : "funded",
    credit: amount < 0 ? "funded" : "available",
    amount: Math.abs(amount),
    actor,
    note,
  }).execute();
  return await transaction.selectFrom("accounts").selectAll().where("id", "=", account)
    .executeTakeFirstOrThrow();
}
