/** Requests a minute, shared by all instances: a token bucket an account. */

import { sql } from "kysely";
import { type Queries, withoutWaiting } from "../store/store.ts";

/** How a request fared. */
export interface RateLimit {
  readonly allowed: boolean;
  /** whole requests that may follow at once */
  readonly remaining: number;
  /** seconds until the bucket is full again, or, when refused, until the next request may come */
  readonly seconds: number;
}

/**
 * Takes one request from an account's bucket. The bucket holds a minute's requests and fills evenly.
 *
 * @param queries to run on
 * @param account whose
 * @param perMinute how many requests a minute
 * @returns whether the request may go on
 */
export async function takeRequest(queries: Queries, account: string, perMinute: number): Promise<RateLimit> {
  const { rows: [taken] } = await sql<{ tokens: number }>`
    insert into rate_limits as bucket (account_id, tokens, updated_at)
    values (${account}, ${perMinute - 1}::double precision, clock_timestamp())
    on conflict (account_id) do update set
      tokens = least(${perMinute}::double precision, bucket.tokens
        + greatest(0, extract(epoch from clock_timestamp() - bucket.updated_at)) * ${perMinute} / 60) - 1,
      updated_at = clock_timestamp()
    where least(${perMinute}::double precision, bucket.tokens
      + greatest(0, extract(epoch from clock_timestamp() - bucket.updated_at)) * ${perMinute} / 60) >= 1
    returning tokens, ${withoutWaiting}
  `.execute(queries);
  if (taken === undefined) {
    return { allowed: false, remaining: 0, seconds: Math.max(1, Math.ceil(60 / perMinute)) };
  }
  return {
    allowed: true,
    remaining: Math.floor(taken.tokens),
    seconds: Math.ceil((perMinute - taken.tokens) * 60 / perMinute),
  };
}
