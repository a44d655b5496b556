import { deepEqual, equal, ok } from "node:assert/strict";
import { CloudEvent, HTTP } from "cloudevents";
import { sql } from "kysely";
import { deliverUsage } from "../../billing/usage_events.ts";
import { accept } from "../../jobs/accept.ts";
import { succeed } from "../../jobs/settle.ts";
import { sweep } from "../../jobs/sweep.ts";
import { delay } from "../delay.ts";
import { openTestRoom, outputOf, requestFrom } from "../jobs/test_room.ts";
import { testOnEachStore } from "../store/each_store.ts";

testOnEachStore(
  "a charge leaves as a CloudEvent, again until it has arrived, always the same",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const request = requestFrom("alice", { numImages: 2 });
    const { id } = await accept(room, request);
    await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).execute();
    await succeed(room, { id, attempt: 1 }, outputOf(request.input));
    const posts: { headers: Record<string, string>; body: string }[] = [];
    const stop = await deliverUsage(store, room.queue, "http://collector.test/", (_url, headers, body) => {
      posts.push({ headers: { ...headers }, body });
      return Promise.resolve(posts.length === 1 ? 503 : 202);
    });
    while (posts.length < 2) {
      // no need to wait for the backoff
      await store.queries.withSchema("queue").updateTable("job" as never)
        .set({ start_after: new Date(0) } as never).where("state" as never, "=", "retry" as never).execute();
      await delay(50);
    }
    const [first, second] = posts;
    equal(second?.body, first?.body);
    const event = HTTP.toEvent(second!) as CloudEvent<unknown>;
    equal(event.id, `usage_${id}`);
    equal(event.type, "idadapter.generation.charged");
    equal(event.subject, "alice");
    deepEqual(event.data, {
      generation_id: id,
      account: "alice",
      key: "test",
      model: "test-model",
      images: 2,
      steps: 40,
      pixels: 128 * 128,
      credits: 66,
    });
    await stop();
    const [row] = await store.queries.selectFrom("usage_events").select("delivered_at").execute();
    equal(row?.delivered_at instanceof Date, true);
  },
);

testOnEachStore(
  "what did not arrive is told in the log, and begins again when its tries are used up",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    const request = requestFrom("alice");
    const charge = async () => {
      const { id } = await accept(room, request);
      await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).where(
        "id",
        "=",
        id,
      )
        .execute();
      await succeed(room, { id, attempt: 1 }, outputOf(request.input));
      return `usage_${id}`;
    };
    const messages = async (id: string) => {
      const { rows } = await sql<{ state: string }>`
      select state::text from queue.job where name = 'usage_events' and data->>'id' = ${id} order by created_on
    `.execute(store.queries);
      return rows.map(({ state }) => state);
    };
    const failures: [string, string][] = [];
    let answer: () => Promise<number> = () => Promise.resolve(503);
    const stop = await deliverUsage(
      store,
      room.queue,
      "http://collector.test/",
      () => answer(),
      (...failure) => failures.push(failure),
    );
    const id = await charge();
    while ((await messages(id))[0] !== "retry") await delay(20);
    deepEqual(failures, [[id, "503"]]);
    await sweep(room);
    deepEqual(await messages(id), ["retry"], "it is still on its way");

    // its last try: no answer at all
    answer = () => Promise.reject(new Error("https://user:secret@collector.test/ refused"));
    await sql`
    update queue.job set retry_count = retry_limit - 1, start_after = now() where name = 'usage_events'
  `.execute(store.queries);
    while ((await messages(id))[0] !== "failed") await delay(20);
    deepEqual(failures.at(-1), [id, "no_answer"]);
    const { rows: outputs } = await sql<
      { output: string }
    >`select output::text from queue.job where output is not null`
      .execute(store.queries);
    ok(outputs.length > 0 && outputs.every(({ output }) => !output.includes("secret")));

    answer = () => Promise.resolve(202);
    await sweep({ ...room, settings: { ...room.settings, usageEvents: false } });
    deepEqual(await messages(id), ["failed"], "nobody is to be told");
    await sweep(room);
    const delivered = () =>
      store.queries.selectFrom("usage_events").select("delivered_at").where("id", "=", id).executeTakeFirst();
    while ((await delivered())?.delivered_at === null) await delay(20);
    equal((await messages(id)).length, 2);
    await sweep(room);
    equal((await messages(id)).length, 2, "it has arrived");

    // and one whose message an operator threw away
    await stop();
    const lost = await charge();
    await sql`delete from queue.job where data->>'id' = ${lost}`.execute(store.queries);
    await sweep(room);
    await sweep(room);
    deepEqual(await messages(lost), ["created"], "once is enough");
  },
);
