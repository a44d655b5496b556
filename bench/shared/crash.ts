/** The bench both crash benches are: instances that are killed under load, and books that must balance. */

import { sql } from "kysely";
import { queueSchema } from "../../store/queue.ts";
import type { Queries } from "../../store/store.ts";
import type { Figure } from "../run.ts";
import { checkBooks, untilIdle } from "./check_books.ts";
import { startLoad } from "./durable_load.ts";
import { portraitRequest, readBenchOptions } from "./portrait_request.ts";
import { ServiceInstance } from "./service_instance.ts";

/** What differs between the two. */
export interface CrashSetting {
  readonly args: readonly string[];
  readonly instances: number;
  readonly kills: number;
  /** environment of the instances */
  readonly variables: Readonly<Record<string, string>>;
  readonly stateFolder: string;
  /** runs `use` on the database, with the instances running or, where they would be in the way, stopped */
  readonly read: <T>(
    instances: readonly ServiceInstance[],
    use: (queries: Queries) => Promise<T>,
  ) => Promise<T>;
  /** starts what `read` has stopped */
  readonly resume: (instances: readonly ServiceInstance[]) => Promise<void>;
}

/** How long the last webhooks and usage events may take by themselves: one whose instance was killed comes after a minute. */
const PATIENCE_MS = 90_000;

/** The longest that they are waited for. */
const DELIVERY_MS = 300_000;

/** A customer's endpoint that fails every third time and remembers what it was sent. */
class Receiver implements AsyncDisposable {
  readonly bodies = new Map<string, Set<string>>();
  /** ids of what was answered with success */
  readonly taken = new Set<string>();
  /** generations whose webhook is among them, and whether they succeeded */
  readonly ended = new Map<string, boolean>();
  requests = 0;
  readonly #server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.text();
    // a webhook names itself in a header, a CloudEvent in its body
    const event = JSON.parse(body);
    const webhook = request.headers.get("webhook-id");
    const id = webhook ?? String(event.id);
    this.bodies.set(id, (this.bodies.get(id) ?? new Set()).add(body));
    const fails = ++this.requests % 3 === 0;
    if (!fails) {
      this.taken.add(id);
      if (webhook !== null) this.ended.set(event.data.id, event.type === "generation.succeeded");
    }
    return new Response(null, { status: fails ? 500 : 204 });
  });

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  /** Whether everything has come that the end of a generation sends. */
  has(generation: string): boolean {
    const succeeded = this.ended.get(generation);
    return succeeded === false || (succeeded === true && this.taken.has(`usage_${generation}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Mulberry32: the same moments for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Waits until every webhook and usage event has arrived. The pause before the next try doubles with each, up to hours: it is
 * cut short, but a message must still be there to be tried.
 *
 * @returns ids of those that have not in time
 */
async function waitForDeliveries(
  { read, resume }: CrashSetting,
  instances: readonly ServiceInstance[],
  receiver: Receiver,
  accepted: ReadonlySet<string>,
): Promise<string[]> {
  const [hurry, end] = [Date.now() + PATIENCE_MS, Date.now() + DELIVERY_MS];
  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  while (Date.now() < hurry && ![...accepted].every((id) => receiver.has(id))) await pause(250);
  while (true) {
    // the database knows of those as well that no client was told of
    const sent = await read(instances, async (queries) => {
      const { rows } = await sql<{ id: string }>`
        select id from webhook_messages union all select id from usage_events
      `.execute(queries);
      await sql`update ${sql.table(`${queueSchema}.job`)} set start_after = now() where state = 'retry'`
        .execute(queries);
      return rows.map(({ id }) => id);
    });
    const missing = sent.filter((id) => !receiver.taken.has(id));
    if (missing.length === 0 || Date.now() >= end) return missing;
    await resume(instances);
    await pause(10_000);
  }
}

/**
 * Kills instances at random moments under load, and checks the books afterwards.
 *
 * @param setting which instances, how often
 * @returns faults found; none may be
 */
export async function crash(setting: CrashSetting): Promise<Figure> {
  const options = readBenchOptions(setting.args, { kills: setting.kills, clients: 4, seed: 1 });
  const { kills, clients, seed } = options.numbers;
  const random = randomFrom(seed);
  await using receiver = new Receiver();
  const instances = Array.from({ length: setting.instances }, () =>
    new ServiceInstance({
      stateFolder: setting.stateFolder,
      variables: {
        THREADS: "1",
        BUNDLE: options.bundle,
        WEBHOOKS_TO_PRIVATE_ADDRESSES: "true",
        USAGE_EVENTS_URL: receiver.url,
        ...setting.variables,
      },
    }));
  await using _stop = {
    [Symbol.asyncDispose]: async () => void await Promise.all(instances.map((i) => i.stop("SIGKILL"))),
  };
  for (const instance of instances) instance.start();
  await Promise.all(instances.map((instance) => instance.ready()));
  const token = await instances[0]!.token("bench");
  const added = await fetch(`${instances[0]!.address}/v1/webhook_endpoints`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ url: receiver.url }),
  });
  if (!added.ok) throw new Error(await added.text());
  const input = await portraitRequest(options);
  const load = startLoad(
    instances,
    token,
    JSON.stringify({
      reference_images: input.referenceImages.map((photo) => photo.toBase64()),
      prompt: input.prompt,
      class_noun: input.classNoun,
      num_inference_steps: 1,
    }),
    clients,
  );
  const began = performance.now();
  for (let kill = 0; kill < kills; kill++) {
    const instance = instances[Math.floor(random() * instances.length)]!;
    // some are hit while they work, some while they start
    if (random() < 0.8) await instance.ready();
    await new Promise((resolve) => setTimeout(resolve, random() * 2000));
    await instance.stop("SIGKILL");
    instance.start();
  }
  await Promise.all(instances.map((instance) => instance.ready()));
  await load.stop();
  const wait = async () => {
    const end = Date.now() + 120_000;
    while (Date.now() < end) {
      const account = await (await fetch(`${instances[0]!.address}/v1/account`, {
        headers: { Authorization: `Bearer ${token}` },
      })).json();
      if (account.reserved === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  };
  await wait();
  const missing = await waitForDeliveries(setting, instances, receiver, load.accepted);
  const books = await setting.read(instances, async (queries) => {
    await untilIdle(queries, 10);
    const books = await checkBooks(queries, load.accepted);
    const { rows: told } = await sql<{ messages: number; ended: number }>`
      select (select count(*)::int from webhook_messages) as messages, count(*)::int as ended from generations
    `.execute(queries);
    return { ...books, ...told[0]! };
  });
  const faults = [...books.faults, ...missing.map((id) => `${id} never arrived`)];
  for (const [id, bodies] of receiver.bodies) if (bodies.size > 1) faults.push(`${id} came with two bodies`);
  if (books.messages !== books.ended) faults.push(`${books.messages} webhooks for ${books.ended} ends`);
  console.log(`${kills} kills, ${setting.instances} instance(s), ${clients} clients, seed ${seed}`);
  console.table({
    "accepted": { count: load.accepted.size },
    ...Object.fromEntries(Object.entries(books.states).map(([state, count]) => [state, { count }])),
    "starts": { count: books.starts },
    "answers without an error": { count: (load.answers[200] ?? 0) + (load.answers[202] ?? 0) },
    "answers lost or 5xx": {
      count: Object.entries(load.answers).filter(([status]) => status === "0" || Number(status) >= 500)
        .reduce((sum, [, count]) => sum + count, 0),
    },
    "webhooks and usage events that came": { count: receiver.taken.size },
    "webhooks and usage events missing": { count: missing.length },
    "requests that brought them": { count: receiver.requests },
    "seconds": { count: Math.round((performance.now() - began) / 1000) },
  });
  for (const fault of faults.slice(0, 20)) console.error(fault);
  return { figure: faults.length, target: 0, holds: faults.length === 0, unit: "faults" };
}
