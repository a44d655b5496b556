/** Reads the whole database and tells whatever is not as it must be once nothing runs any more. */

import { sql } from "kysely";
import type { Queries } from "../../store/store.ts";

/** What was found. */
export interface Books {
  readonly generations: number;
  /** by state */
  readonly states: Readonly<Record<string, number>>;
  /** starts of all generations; more than there are generations were taken over */
  readonly starts: number;
  /** one sentence each; none is what is hoped for */
  readonly faults: readonly string[];
}

/** Each selects what must not be, as one column of text. */
const rules: Readonly<Record<string, string>> = {
  "is not over": "select id from generations where state in ('queued', 'running')",
  "is not settled exactly once": `select g.id from generations g left join transfers t
    on t.generation_id = g.id and t.kind in ('capture', 'release')
    group by g.id, g.state having count(t.id) <> 1
      or min(t.kind) <> case when g.state = 'succeeded' then 'capture' else 'release' end`,
  "was not reserved exactly once": `select g.id from generations g left join transfers t
    on t.generation_id = g.id and t.kind = 'reserve' group by g.id having count(t.id) <> 1`,
  "has another balance than its journal": `select a.id from accounts a
    where a.available <> (select coalesce(sum(case when credit = 'available' then amount when debit = 'available' then -amount else 0 end), 0) from transfers where account_id = a.id)
      or a.spent <> (select coalesce(sum(case when credit = 'spent' then amount else 0 end), 0) from transfers where account_id = a.id)
      or a.reserved <> 0 or a.available + a.spent <> a.funded`,
  "succeeded without all of its pictures": `select g.id from generations g
    where g.state = 'succeeded' and g.images <> (select count(*) from generation_images i
      join image_blobs b on b.key = 'generations/' || g.id || '/' || i.index where i.generation_id = g.id)`,
  "still has its photos": "select generation_id from generation_inputs",
  "has no usage event of its own": `select g.id from generations g
    where exists (select from usage_events) and (g.state = 'succeeded') <> exists (select from usage_events u where u.generation_id = g.id)`,
};

/**
 * Checks a database in which nothing runs any more.
 *
 * @param queries to read with
 * @param accepted ids that clients were given; each must have ended
 * @returns figures and faults
 */
export async function checkBooks(queries: Queries, accepted: ReadonlySet<string>): Promise<Books> {
  const faults: string[] = [];
  for (const [fault, statement] of Object.entries(rules)) {
    const { rows } = await sql.raw<Record<string, string>>(statement).execute(queries);
    faults.push(...rows.map((row) => `${Object.values(row)[0]} ${fault}`));
  }
  const rows = await queries.selectFrom("generations").select(["id", "state", "attempt"]).execute();
  const known = new Set(rows.map(({ id }) => id));
  for (const id of accepted) if (!known.has(id)) faults.push(`${id} was accepted and is not there`);
  const states: Record<string, number> = {};
  for (const { state } of rows) states[state] = (states[state] ?? 0) + 1;
  return {
    generations: rows.length,
    states,
    starts: rows.reduce((sum, row) => sum + row.attempt, 0),
    faults,
  };
}

/**
 * Waits until no generation is open.
 *
 * @param queries to read with
 * @param seconds at most
 */
export async function untilIdle(queries: Queries, seconds: number): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    const { rows: [row] } = await sql<{ open: number }>`
      select count(*)::int as open from generations where state in ('queued', 'running')
    `.execute(queries);
    if (row?.open === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
