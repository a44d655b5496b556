import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { Webhook } from "standardwebhooks";
import { lockAccount } from "../../billing/ledger.ts";
import { accept } from "../../jobs/accept.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { succeed, withdraw } from "../../jobs/settle.ts";
import { deliverWebhooks, listMessages, replayMessage } from "../../jobs/webhooks/deliver.ts";
import {
  addEndpoint,
  listEndpoints,
  mostEndpoints,
  type NewSecret,
  removeEndpoint,
  rotateSecret,
  TooManyEndpointsError,
} from "../../jobs/webhooks/endpoints.ts";
import { AddressRefusedError, post, refusalOf } from "../../jobs/webhooks/post.ts";
import { delay } from "../delay.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom, outputOf, requestFrom } from "./test_room.ts";

/** One request that arrived. */
interface Delivery {
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** A customer's endpoint on loopback that answers with one status after another, the last for ever. */
class Receiver implements AsyncDisposable {
  readonly #deliveries: Delivery[] = [];
  readonly #waiting: ((delivery: Delivery) => void)[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor(readonly statuses: number[]) {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      const delivery = { headers: Object.fromEntries(request.headers), body: await request.text() };
      const next = this.#waiting.shift();
      if (next === undefined) this.#deliveries.push(delivery);
      else next(delivery);
      const [status = 200] = this.statuses;
      if (this.statuses.length > 1) this.statuses.shift();
      return new Response(null, { status, headers: status === 302 ? { Location: this.url } : {} });
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/hook`;
  }

  next(): Promise<Delivery> {
    const delivery = this.#deliveries.shift();
    return delivery === undefined
      ? new Promise((resolve) => this.#waiting.push(resolve))
      : Promise.resolve(delivery);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.shutdown();
  }
}

const options = { allowPrivate: true, timeout: 5_000, concurrency: 1 };

function subscribe(room: JobsRoom, account: string, url: string): Promise<NewSecret> {
  return room.store.transaction(async (transaction) => {
    await lockAccount(transaction, account, room.settings.initialCredit);
    return await addEndpoint(transaction, room.sealer, account, url);
  });
}

/** Waits for what another connection is about to write. */
async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  while (true) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(20);
  }
}

const settledMessage = (room: JobsRoom, state: "delivered" | "failed") =>
  until(async () => (await listMessages(room, "alice")).find((message) => message.state === state));

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
    const event = new Webhook(secret).verify(body, headers) as Record<string, unknown>;
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
    ok(
      !JSON.stringify(await store.queries.selectFrom("webhook_endpoints").selectAll().execute()).includes(
        secret,
      ),
    );
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
    equal((await listMessages(room, "alice")).length, 1, "nothing more is sent there");
    await stop();
  },
);

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
