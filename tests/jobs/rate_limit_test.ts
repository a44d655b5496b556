import { deepEqual, equal, ok } from "node:assert/strict";
import { sql } from "kysely";
import { type RateLimit, takeRequest } from "../../jobs/rate_limit.ts";
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
  const perMinute = 10;
  const taken: RateLimit[] = [];
  const instances = [store.queries, other.queries];
  const round = async (requests: number) => {
    const limits = await Promise.all(
      Array.from({ length: requests }, (_, n) => takeRequest(instances[n % 2]!, "alice", perMinute)),
    );
    taken.push(...limits);
  };
  await round(1);
  // a bucket whose last request lies in the future does not fill, however slow this machine is
  await sql`
    create function keep_time() returns trigger language plpgsql as
      'begin new.updated_at := clock_timestamp() + interval ''1 hour''; return new; end'
  `.execute(store.queries);
  await sql`create trigger time_stands_still before update on rate_limits for each row execute function keep_time()`
    .execute(store.queries);
  await sql`update rate_limits set tokens = ${perMinute - 1}`.execute(store.queries);
  await round(39);
  const allowed = taken.filter((limit) => limit.allowed);
  equal(allowed.length, perMinute);
  deepEqual(allowed.map(({ remaining }) => remaining).sort((a, b) => b - a), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
});
