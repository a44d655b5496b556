/** What an account has used, by day and by key. */

import { sql } from "kysely";
import type { Queries } from "../store/store.ts";

/** A sum over generations that succeeded. */
export interface UsageSum {
  readonly generations: number;
  readonly images: number;
  /** denoising steps over all pictures */
  readonly steps: number;
  /** credits charged */
  readonly credits: number;
}

/** One key's day. */
export interface UsageRow extends UsageSum {
  /** UTC, `2026-01-31` */
  readonly day: string;
  readonly key: string;
}

/** The same, in all. */
export interface Usage {
  readonly rows: readonly UsageRow[];
  readonly total: UsageSum;
}

/** Which days, UTC, both included. */
export interface UsagePeriod {
  /** `2026-01-01` */
  readonly from: string;
  readonly to: string;
}

/**
 * Sums up what was charged.
 *
 * @param queries to read with
 * @param account whose
 * @param period which days; a generation counts on the day it was finished
 * @param endUser counts what was made for this user of the account alone; left out, everything
 * @returns a row for each day and key with a charge, by day and then by key, and the total
 */
export async function readUsage(
  queries: Queries,
  account: string,
  { from, to }: UsagePeriod,
  endUser?: string,
): Promise<Usage> {
  const { rows } = await sql<UsageRow>`
    select to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD') as day, key_id as key,
      count(*)::bigint as generations, sum(images)::bigint as images, sum(images * steps)::bigint as steps,
      sum(price)::bigint as credits
    from generations
    where account_id = ${account} and state = 'succeeded'
      and (${endUser ?? null}::text is null or end_user = ${endUser ?? null})
      and finished_at >= (${from}::date)::timestamp at time zone 'UTC'
      and finished_at < (${to}::date + 1)::timestamp at time zone 'UTC'
    group by 1, 2 order by 1, 2
  `.execute(queries);
  const sum = (field: keyof UsageSum) => rows.reduce((total, row) => total + row[field], 0);
  return {
    rows,
    total: {
      generations: sum("generations"),
      images: sum("images"),
      steps: sum("steps"),
      credits: sum("credits"),
    },
  };
}
