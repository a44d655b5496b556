import { deepEqual, equal } from "node:assert/strict";
import { CloudEvent, HTTP } from "cloudevents";
import { deliverUsage } from "../../billing/usage_events.ts";
import { accept } from "../../jobs/accept.ts";
import { succeed } from "../../jobs/settle.ts";
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
