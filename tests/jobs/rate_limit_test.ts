import { deepEqual, equal, ok } from "node:assert/strict";
import { sql } from "kysely";
import { takeRequest } from "../../jobs/rate_limit.ts";
import { testOnEachStore, testOnServer } from "../store/each_store.ts";

testOnEachStore("a minute's requests at once, then as the minute passes", async ({ store: { queries } }) => {
  const perMinute = 3;
  const take = (account = "alice") => takeRequest(queries, account, perMinute);
  const freeze = () =>
    sql`update rate_limits set updated_at = clock_timestamp() + interval '1 hour'`.execute(queries);
  const remaining: number[] = [];
  for (let n = 0; n < perMinute; n++) {
    const { allowed, remaining: left } = await take();
    ok(allowed);
    remaining.push(left);
    // time stands still: a bucket from the future does not fill
    await freeze();
  }
  deepEqual(remaining, [2, 1, 0]);
  deepEqual(await take(), { allowed: false, remaining: 0, seconds: 20 });
  ok((await take("bob")).allowed);
  await sql`update rate_limits set updated_at = clock_timestamp() - interval '21 seconds'`.execute(queries);
  deepEqual((await take()).allowed, true);
  await sql`update rate_limits set updated_at = clock_timestamp() - interval '1 hour'`.execute(queries);
  equal((await take()).remaining, perMinute - 1, "a bucket never overflows");
});

testOnEachStore("only its own commit does not wait for the disk", async ({ store: { queries } }) => {
  const setting = async () =>
    (await sql<{ value: string }>`select current_setting('synchronous_commit') as value`.execute(queries))
      .rows[0]!.value;
  const before = await setting();
  ok(before !== "off");
  await takeRequest(queries, "alice", 3);
  equal(await setting(), before);
});

testOnServer("instances share the bucket", async ({ store, another }) => {
  await using other = await another!();
  const taken = await Promise.all(
    Array.from({ length: 40 }, (_, n) => takeRequest(n % 2 ? store.queries : other.queries, "alice", 10)),
  );
  const allowed = taken.filter((limit) => limit.allowed).length;
  // ten, and what a slow machine's seconds may have added
  ok(allowed >= 10 && allowed < 40, String(allowed));
});
