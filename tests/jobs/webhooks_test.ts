import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { sql } from "kysely";
import { Webhook } from "standardwebhooks";
import { accept } from "../../jobs/accept.ts";
import { fail, succeed, withdraw } from "../../jobs/settle.ts";
import { deliverWebhooks, listMessages, replayMessage } from "../../jobs/webhooks/deliver.ts";
import {
  listEndpoints,
  mostEndpoints,
  removeEndpoint,
  rotateSecret,
  TooManyEndpointsError,
} from "../../jobs/webhooks/endpoints.ts";
import { sweep } from "../../jobs/sweep.ts";
import { GenerationEndedSchema } from "../../openapi/webhook.ts";
import { createSealer } from "../../store/sealing.ts";
import { AddressRefusedError, post, refusalOf } from "../../jobs/webhooks/post.ts";
import { delay } from "../delay.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom, outputOf, requestFrom } from "./test_room.ts";
import {
  carriers,
  type Delivery,
  options,
  Receiver,
  settledMessage,
  subscribe,
  until,
} from "./webhooks_receiver.ts";

testOnEachStore(
  "an end is told, signed, to every endpoint of the account and to no other",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using mine = new Receiver([200]);
    await using theirs = new Receiver([200]);
    const { secret } = await subscribe(room, "alice", mine.url);
    await subscribe(room, "bob", theirs.url);
    const stop = await deliverWebhooks(room, options);
    const request = requestFrom("alice");
    const { id } = await accept(room, request);
    await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).execute();
    await succeed(room, { id, attempt: 1 }, outputOf(request.input));
    const { headers, body } = await mine.next();
    const event = GenerationEndedSchema.parse(new Webhook(secret).verify(body, headers));
    equal(event.type, "generation.succeeded");
    deepEqual(event.data, {
      id,
      status: "succeeded",
      model: "test-model",
      usage: { images: 1, steps: 20 },
      credits: 33,
    });
    throws(() => new Webhook(secret).verify(body.replace("succeeded", "failed"), headers));
    equal((await settledMessage(room, "delivered")).attempts, 1);
    deepEqual(await listMessages(room, "bob"), []);
    const other = await accept(room, request);
    const failure = { code: "face_not_found", message: "No face", details: {} } as const;
    await fail(room, other, failure);
    const { type, data } = GenerationEndedSchema.parse(JSON.parse((await mine.next()).body));
    equal(type, "generation.failed");
    deepEqual([data.usage, data.credits, data.error], [{ images: 0, steps: 0 }, 0, {
      code: "face_not_found",
      detail: "No face",
    }]);
    const rows = await store.queries.selectFrom("webhook_endpoints").selectAll().execute();
    // as text, and as the bytes that it stands for
    const bytes = Uint8Array.fromBase64(secret.slice("whsec_".length)).toHex();
    for (const row of rows) {
      for (const value of Object.values(row)) {
        const stored = value instanceof Uint8Array ? value : new TextEncoder().encode(String(value));
        ok(!new TextDecoder().decode(stored).includes(secret.slice("whsec_".length)));
        ok(!new Uint8Array(stored).toHex().includes(bytes));
      }
    }
    equal(rows.filter((row) => row.secret instanceof Uint8Array).length, 2, "there was something to look at");
    await stop();
  },
);

testOnEachStore(
  "what does not arrive is tried again, and can be sent again later, always the same",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using receiver = new Receiver([500, 302, 200]);
    const { endpoint, secret } = await subscribe(room, "alice", receiver.url);
    const stop = await deliverWebhooks(room, options);
    const { id } = await accept(room, requestFrom("alice"));
    await withdraw(room, id, "canceled");
    const first = await receiver.next();
    // no need to wait for the backoff: bring the next try forward
    const hurry = async () => {
      await store.queries.withSchema("queue").updateTable("job" as never)
        .set({ start_after: new Date(0) } as never).where("state" as never, "=", "retry" as never).execute();
      return undefined;
    };
    const hurried = async (): Promise<Delivery> => {
      const next = receiver.next().then((delivery) => ({ delivery }));
      while (true) {
        await hurry();
        const arrived = await Promise.race([next, delay(100)]);
        if (typeof arrived === "object") return arrived.delivery;
      }
    };
    const second = await hurried();
    const third = await hurried();
    for (const delivery of [second, third]) {
      equal(delivery.body, first.body);
      equal(delivery.headers["webhook-id"], first.headers["webhook-id"]);
    }
    const message = await settledMessage(room, "delivered");
    deepEqual([message.attempts, message.last_result], [3, "200"]);

    const renewed = await rotateSecret(store.queries, room.sealer, "alice", endpoint.id);
    equal(await rotateSecret(store.queries, room.sealer, "bob", endpoint.id), undefined);
    equal(await replayMessage(room, "bob", message.id), undefined);
    equal((await replayMessage(room, "alice", message.id))?.state, "pending");
    const again = await receiver.next();
    equal(again.body, first.body);
    equal(again.headers["webhook-id"], first.headers["webhook-id"]);
    new Webhook(secret).verify(again.body, again.headers);
    new Webhook(renewed!.secret).verify(again.body, again.headers);
    await settledMessage(room, "delivered");

    await store.queries.updateTable("webhook_endpoints").set({ previous_until: new Date(0) }).execute();
    await replayMessage(room, "alice", message.id);
    const later = await receiver.next();
    throws(() => new Webhook(secret).verify(later.body, later.headers), "the old secret's time is over");
    new Webhook(renewed!.secret).verify(later.body, later.headers);
    await stop();
  },
);

testOnEachStore(
  "it is given up after a day, or at once when the endpoint says it is gone",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using receiver = new Receiver([500, 410]);
    await subscribe(room, "alice", receiver.url);
    const end = async () => withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
    await end();
    await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) }).execute();
    const stop = await deliverWebhooks(room, options);
    deepEqual((await settledMessage(room, "failed")).last_result, "500");
    await store.queries.deleteFrom("webhook_messages").execute();
    await end();
    deepEqual((await settledMessage(room, "failed")).last_result, "410");
    await until(async () => (await listEndpoints(store.queries, "alice"))[0]?.disabled_at ?? undefined);
    await end();
    const [gone, ...more] = await listMessages(room, "alice");
    deepEqual(more, [], "nothing more is sent there");

    // one that was waiting when the endpoint was switched off, or is sent again
    receiver.statuses.splice(0, Infinity, 200);
    while (receiver.arrived > 0) await receiver.next();
    equal((await replayMessage(room, "alice", gone!.id))?.state, "pending");
    const refused = await until(async () => {
      const [message] = await listMessages(room, "alice");
      return message?.state === "failed" ? message : undefined;
    });
    deepEqual([refused.last_result, refused.attempts, receiver.arrived], ["endpoint_disabled", 1, 0]);
    const { endpoint } = (await rotateSecret(store.queries, room.sealer, "alice", refused.endpoint_id))!;
    equal(endpoint.disabled_at, null);
    await replayMessage(room, "alice", gone!.id);
    equal((await settledMessage(room, "delivered")).attempts, 2);
    await stop();
  },
);

testOnEachStore("a message whose secret cannot be read says so, and ends after a day", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new Receiver([200]);
  await subscribe(room, "alice", receiver.url);
  await withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
  await store.queries.updateTable("webhook_messages").set({ deliver_until: new Date(0) }).execute();
  const results: string[] = [];
  const sealer = await createSealer([new Uint8Array(32).fill(8)]);
  const stop = await deliverWebhooks({ ...room, sealer }, {
    ...options,
    onFailure: (_message, result) => results.push(result),
  });
  const { attempts, last_result } = await settledMessage(room, "failed");
  deepEqual([attempts, last_result, results], [1, "secret_unreadable", ["secret_unreadable"]]);
  equal(receiver.arrived, 0);
  await stop();
});

testOnEachStore("a message that nothing carries any more is sent again", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new Receiver([500]);
  await subscribe(room, "alice", receiver.url);
  await withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
  await sql`delete from queue.job where name = 'webhooks'`.execute(store.queries);
  await sweep(room);
  await sweep(room);
  equal((await carriers(room)).length, 1);
  const stop = await deliverWebhooks(room, options);
  await receiver.next();
  // this try is the message's own, as any
  const [left] = await until(async () => {
    const left = await carriers(room);
    return left[0]?.state === "retry" || left.length === 0 ? left : undefined;
  });
  equal(left?.state, "retry");
  equal((await listMessages(room, "alice"))[0]?.attempts, 1);
  await stop();
});

testOnEachStore(
  "a message that finds its endpoint off does not undo its being switched on",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using receiver = new Receiver([200]);
    const { endpoint } = await subscribe(room, "alice", receiver.url);
    await withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
    await store.queries.updateTable("webhook_endpoints").set({ disabled_at: new Date() }).execute();
    const on = Promise.withResolvers<unknown>();
    // between the look at the endpoint and what follows from it
    const onFailure = () => on.resolve(rotateSecret(store.queries, room.sealer, "alice", endpoint.id));
    const stop = await deliverWebhooks(room, { ...options, onFailure });
    equal((await settledMessage(room, "failed")).last_result, "endpoint_disabled");
    await on.promise;
    await stop();
    equal((await listEndpoints(store.queries, "alice"))[0]?.disabled_at, null);
  },
);

testOnEachStore(
  "a secret that the customer holds goes on signing, whatever answers were lost",
  async ({ store }) => {
    await using room = await openTestRoom(store);
    await using receiver = new Receiver([200]);
    const { endpoint, secret: held } = await subscribe(room, "alice", receiver.url);
    const rotate = async () => (await rotateSecret(store.queries, room.sealer, "alice", endpoint.id))!.secret;
    const lost = await rotate();
    const renewed = await rotate();
    const stop = await deliverWebhooks(room, options);
    const deliver = async () => {
      await withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
      return await receiver.next();
    };
    const signs = ({ body, headers }: Delivery, secret: string) => {
      try {
        new Webhook(secret).verify(body, headers);
        return true;
      } catch {
        return false;
      }
    };
    const first = await deliver();
    deepEqual([held, lost, renewed].map((secret) => signs(first, secret)), [true, true, true]);
    const again = await rotate();
    const second = await deliver();
    deepEqual([held, lost, renewed, again].map((secret) => signs(second, secret)), [true, false, true, true]);

    // its day is over, and a day begins when a secret is replaced
    const { rows: [days] } = await sql<{ oldest: number; previous: number }>`
    select extract(epoch from oldest_until - created_at)::float as oldest,
      extract(epoch from previous_until - oldest_until)::float as previous
    from webhook_endpoints
  `.execute(store.queries);
    ok(days!.oldest >= 86_400 && days!.oldest < 86_400 + 3600, String(days!.oldest));
    ok(days!.previous > 0, "it is not prolonged by the next");
    await store.queries.updateTable("webhook_endpoints").set({ oldest_until: new Date(0) }).execute();
    const third = await deliver();
    deepEqual([held, renewed, again].map((secret) => signs(third, secret)), [false, true, true]);
    const last = await rotate();
    const fourth = await deliver();
    deepEqual([held, renewed, again, last].map((secret) => signs(fourth, secret)), [false, true, true, true]);
    await stop();
  },
);

testOnEachStore("tries come ever more slowly, for a day", async ({ store }) => {
  await using room = await openTestRoom(store);
  await using receiver = new Receiver([500]);
  await subscribe(room, "alice", receiver.url);
  const failures: [number, string][] = [];
  const stop = await deliverWebhooks(room, {
    ...options,
    onFailure: ({ attempts }, result) => failures.push([attempts, result]),
  });
  await withdraw(room, (await accept(room, requestFrom("alice"))).id, "canceled");
  const job = async (tries: number) =>
    await until(async () => {
      const { rows: [row] } = await sql<{ seconds: number }>`
        select extract(epoch from start_after - now())::float as seconds from queue.job
        where name = 'webhooks' and state = 'retry' and retry_count = ${tries - 1}
      `.execute(store.queries);
      return row;
    });
  const tries = 13;
  for (let n = 1; n <= tries; n++) {
    await receiver.next();
    const { seconds } = await job(n);
    // half of it is drawn, so that what failed together does not come again together; the rest is this machine's
    const most = Math.min(5 * 2 ** n, 7200);
    ok(seconds <= most && seconds > most / 2 - 30, `${seconds} s after try ${n}`);
    await store.queries.withSchema("queue").updateTable("job" as never)
      .set({ start_after: new Date(0) } as never).where("state" as never, "=", "retry" as never).execute();
  }
  deepEqual(failures.slice(0, 3), [[0, "500"], [1, "500"], [2, "500"]]);

  const [message] = await listMessages(room, "alice");
  equal(message!.deliver_until.getTime() - message!.created_at.getTime(), 86_400_000);
  // as many tries as a day can hold, and the queue keeps the message for as long
  const { rows: [queue] } = await sql<{ retry_limit: number; retention_seconds: number }>`
    select retry_limit, retention_seconds from queue.queue where name = 'webhooks'
  `.execute(store.queries);
  let least = 0;
  for (let n = 1; n <= queue!.retry_limit; n++) least += Math.min(5 * 2 ** n, 7200) / 2;
  ok(least >= 86_400, `tries may be used up after ${least} s`);
  ok(queue!.retention_seconds > 86_400);
  await stop();
});

testOnEachStore("endpoints are the account's own, and not without number", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { endpoint } = await subscribe(room, "alice", "https://example.com/1");
  for (let n = 2; n <= mostEndpoints; n++) await subscribe(room, "alice", `https://example.com/${n}`);
  await rejects(subscribe(room, "alice", "https://example.com/more"), TooManyEndpointsError);
  equal(await removeEndpoint(store.queries, "bob", endpoint.id), false);
  equal(await removeEndpoint(store.queries, "alice", endpoint.id), true);
  equal((await listEndpoints(store.queries, "alice")).length, mostEndpoints - 1);
});

Deno.test("no request goes to a private address, however it is written", async () => {
  await using receiver = new Receiver([200]);
  const port = new URL(receiver.url).port;
  const hosts = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "10.0.0.1",
    "169.254.169.254",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "0.0.0.0",
    "[fe80::1]",
    "[fd00::1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "224.0.0.1",
    "255.255.255.255",
  ];
  for (const host of hosts) {
    const url = `https://${host}:${port}/`;
    ok(refusalOf(url, false) !== undefined, host);
    await rejects(post(url, {}, "x", { allowPrivate: false, timeout: 1000 }), AddressRefusedError, host);
  }
  // a name tells nothing by itself: what it stands for is looked up, checked, and connected to in one go
  equal(refusalOf(`https://localhost:${port}/`, false), undefined);
  await rejects(
    post(`https://localhost:${port}/`, {}, "x", { allowPrivate: false, timeout: 5000 }),
    AddressRefusedError,
  );
  deepEqual(await post(receiver.url, {}, "x", { allowPrivate: true, timeout: 5000 }), { status: 200 });
});

Deno.test("an address must be a plain https one", () => {
  equal(refusalOf("https://example.com/hook?a=1", false), undefined);
  for (const url of ["example.com", "http://example.com", "ftp://example.com", "https://u:p@example.com"]) {
    ok(refusalOf(url, false) !== undefined, url);
  }
});

Deno.test("who does not answer is not waited for", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.addr.port}/`;
  await rejects(post(url, {}, "x", { allowPrivate: true, timeout: 100 }), /no answer in time/);
});
