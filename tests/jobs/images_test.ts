import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import S3rver from "s3rver";
import { accept } from "../../jobs/accept.ts";
import { DurableGenerations } from "../../jobs/durable_generations.ts";
import { imageKey, type ImageStore } from "../../jobs/image_store.ts";
import { keepImagesInPostgres } from "../../jobs/postgres_images.ts";
import { describe } from "../../jobs/read_generation.ts";
import { runGenerations } from "../../jobs/run.ts";
import { keepImagesInS3 } from "../../jobs/s3_images.ts";
import { succeed, withdraw } from "../../jobs/settle.ts";
import { runSweep, sweep } from "../../jobs/sweep.ts";
import { failureOf } from "../../routes/generation_answer.ts";
import { toProblemError } from "../../routes/problem_error.ts";
import type { Store } from "../../store/store.ts";
import { ObjectStoreError } from "../../store/unavailable.ts";
import { delay } from "../delay.ts";
import { openTestStore, testOnEachStore } from "../store/each_store.ts";
import { ServerLink } from "../store/server_link.ts";
import { ControlledExecutor, openTestRoom, outputOf, requestFrom } from "./test_room.ts";
import { waitForEnd } from "./wait_for_end.ts";

/** What every image store does. */
async function behaves(images: ImageStore): Promise<void> {
  const expiresAt = new Date(Date.now() + 3_600_000);
  const image = (index: number, ...bytes: number[]) => ({
    key: imageKey("gen_1", index),
    contentType: "image/png",
    data: Uint8Array.from(bytes),
    expiresAt,
  });
  await images.put([image(0, 1, 2, 255), image(1, 0)]);
  deepEqual(await images.get(imageKey("gen_1", 0)), Uint8Array.of(1, 2, 255));
  await images.put([image(0, 3)]);
  deepEqual(await images.get(imageKey("gen_1", 0)), Uint8Array.of(3), "the later bytes stay");
  equal(await images.get(imageKey("gen_2", 0)), undefined);
  await images.remove([imageKey("gen_1", 0), imageKey("gen_2", 7)]);
  equal(await images.get(imageKey("gen_1", 0)), undefined);
  deepEqual(await images.get(imageKey("gen_1", 1)), Uint8Array.of(0));
  await images.remove([]);
  await images.put([]);
  await images.removeExpired();
}

testOnEachStore("pictures in Postgres", ({ store }) => behaves(keepImagesInPostgres(store.queries)));

/** An S3-compatible server of the test's own, by a link that can be broken. */
interface TestBucket {
  readonly images: ImageStore;
  readonly link: ServerLink;
  /** keys of what it holds */
  readonly keys: () => Promise<string[]>;
}

/** Registers a test that needs a bucket. */
function testOnS3(name: string, test: (bucket: TestBucket) => Promise<void>): void {
  Deno.test({
    name,
    // s3rver keeps streams of its own open until the process ends
    sanitizeResources: false,
    sanitizeOps: false,
    fn: async () => {
      const folder = await Deno.makeTempDir();
      const server = new S3rver({
        address: "127.0.0.1",
        port: 0,
        silent: true,
        directory: join(folder, "s3"),
        configureBuckets: [{ name: "portraits", configs: [] }],
      });
      const { port } = await server.run();
      using link = new ServerLink(port);
      using images = await keepImagesInS3({
        bucket: "portraits",
        region: "us-east-1",
        endpoint: `http://127.0.0.1:${link.port}`,
        // frozen, as the configuration is
        credentials: Object.freeze({ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" }),
      });
      const keys = async () => {
        const listing = await (await fetch(`http://127.0.0.1:${port}/portraits`)).text();
        return [...listing.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key!);
      };
      await test({ images, link, keys });
      await server.close();
      await Deno.remove(folder, { recursive: true });
    },
  });
}

const never = new AbortController().signal;

/** Waits until nothing of a generation is left to do here. */
async function untilEmpty(keys: () => Promise<string[]>): Promise<void> {
  for (let tries = 0; (await keys()).length > 0; tries++) {
    ok(tries < 500, `still there: ${await keys()}`);
    await delay(20);
  }
}

testOnS3("pictures in an S3-compatible service", ({ images }) => behaves(images));

testOnS3("a generation's pictures in S3: kept, read, expired by the sweep", async ({ images, keys }) => {
  await using store = await openTestStore();
  await using room = await openTestRoom(store, {}, images);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1 });
  const generations = new DurableGenerations(room);
  const { id } = await generations.submit(requestFrom("alice", { numImages: 2 }));
  const other = await generations.submit(requestFrom("alice", { seed: 9 }));
  (await executor.next()).succeed();
  (await executor.next()).succeed();
  await waitForEnd(room, id, never);
  await waitForEnd(room, other.id, never);
  deepEqual((await keys()).sort(), [imageKey(id, 0), imageKey(id, 1), imageKey(other.id, 0)].sort());
  equal((await store.queries.selectFrom("image_blobs").selectAll().execute()).length, 0);
  deepEqual((await generations.find("alice", id))?.images.map(({ data }) => [...data]), [[9, 9, 0], [
    9,
    9,
    1,
  ]]);
  await sweep(room);
  equal((await keys()).length, 3, "their time is not over");
  await store.queries.updateTable("generation_images").set({ expires_at: new Date(0) })
    .where("generation_id", "=", id).execute();
  await sweep(room);
  deepEqual(await keys(), [imageKey(other.id, 0)]);
  equal(await generations.remove("alice", other.id), true);
  deepEqual(await keys(), []);
  await generations.close();
});

/** Rows of so many pictures of a generation that is over, of which the first have expired. */
async function addPictures({ queries }: Store, id: string, count: number, expired: number): Promise<void> {
  await queries.insertInto("generation_images").values(Array.from({ length: count }, (_, index) => ({
    generation_id: id,
    index,
    seed: index,
    content_type: "image/png",
    width: 128,
    height: 128,
    identity_similarity: null,
    expires_at: new Date(index < expired ? 0 : Date.now() + 3_600_000),
  }))).execute();
}

testOnEachStore("the sweep removes all pictures that it can, and tells of the others", async ({ store }) => {
  const kept = keepImagesInPostgres(store.queries);
  const stuck = new Set<string>();
  const images: ImageStore = {
    ...kept,
    remove(keys) {
      if (keys.some((key) => stuck.has(key))) return Promise.reject(new ObjectStoreError("AccessDenied"));
      return kept.remove(keys);
    },
  };
  await using room = await openTestRoom(store, {}, images);
  const { id } = await accept(room, requestFrom("alice"));
  await withdraw(room, id, "canceled");
  // more than go at a time
  await addPictures(store, id, 1100, 1050);
  const left = async () =>
    (await store.queries.selectFrom("generation_images").select("index").where("index", "<", 1050).execute())
      .map(({ index }) => index);
  stuck.add(imageKey(id, 7));
  const faults: unknown[] = [];
  const stop = await runSweep(room, (error) => faults.push(error));
  const pass = async () => {
    const passed = faults.length;
    await store.transaction((transaction) => room.queue.send(transaction, "sweep", {}));
    while (faults.length === passed) await delay(20);
  };
  while ((await left()).join() !== "7") await pass();
  await stop();
  ok(faults.every((fault) => fault instanceof ObjectStoreError));
  stuck.clear();
  await sweep(room);
  deepEqual(await left(), []);
  equal((await store.queries.selectFrom("generation_images").selectAll().execute()).length, 50);
});

testOnEachStore("all that has expired goes in one pass", async ({ store }) => {
  await using room = await openTestRoom(store);
  const { id } = await accept(room, requestFrom("alice"));
  await withdraw(room, id, "canceled");
  await addPictures(store, id, 1100, 1100);
  await sweep(room);
  equal((await store.queries.selectFrom("generation_images").selectAll().execute()).length, 0);
});

testOnS3("an S3 service that is away for a moment costs no second run", async ({ images, link, keys }) => {
  await using store = await openTestStore();
  await using room = await openTestRoom(store, {}, images);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, {
    concurrency: 1,
    // as often as it takes
    imagePauses: Array.from({ length: 1000 }, () => 20),
  });
  const { id } = await accept(room, requestFrom("alice"));
  link.refuse();
  (await executor.next()).succeed();
  // the SDK tries three times by itself
  for (let tries = 0; link.refused < 7; tries++) {
    ok(tries < 1000, "nobody tries again");
    await delay(20);
  }
  link.restore();
  const row = await waitForEnd(room, id, never);
  deepEqual([row.state, row.attempt, executor.pending], ["succeeded", 1, 0]);
  deepEqual(await keys(), [imageKey(id, 0)]);
});

testOnS3(
  "an S3 service that stays away fails the generation, says so, and costs nothing",
  async ({ images, link }) => {
    await using store = await openTestStore();
    await using room = await openTestRoom(store, {}, images);
    const executor = new ControlledExecutor();
    const faults: unknown[] = [];
    await using _running = await runGenerations(room, executor, {
      concurrency: 1,
      imagePauses: [1],
      onFault: (_id, error) => faults.push(error),
    });
    const { id } = await accept(room, requestFrom("alice"));
    link.refuse();
    (await executor.next()).succeed();
    const row = await waitForEnd(room, id, never);
    deepEqual([row.state, row.attempt, row.failure?.code], ["failed", 1, "image_store_unavailable"]);
    ok(faults.length === 1 && faults[0] instanceof ObjectStoreError);
    const account = await store.queries.selectFrom("accounts").selectAll().executeTakeFirstOrThrow();
    deepEqual([account.available, account.reserved, account.spent], [1000, 0, 0]);
    // whoever asks for what lies there is told the same, and not that the database is away
    equal(toProblemError(await rejection(room.images.get(imageKey(id, 0)))).code, "image_store_unavailable");
    equal(failureOf(await describe(room, row)).code, "image_store_unavailable");
  },
);

testOnS3("who watches from another instance waits until S3 is back", async ({ images, link }) => {
  await using store = await openTestStore();
  await using room = await openTestRoom(store, {}, images);
  const request = requestFrom("alice");
  const { id } = await accept(room, request);
  await store.queries.updateTable("generations").set({ state: "running", attempt: 1 }).where("id", "=", id)
    .execute();
  const generations = new DurableGenerations(room);
  const types: string[] = [];
  const events = await generations.watch("alice", id);
  const watching = (async () => {
    for await (const { type } of events ?? []) types.push(type);
  })();
  // the instance that ends it tells this one of nothing but the end
  const elsewhere = { ...room, notices: { ...room.notices, tellHere: () => {} } };
  await succeed(elsewhere, { id, attempt: 1 }, outputOf(request.input));
  link.refuse();
  room.notices.tellHere({ id, state: "succeeded" });
  // the SDK tries three times by itself
  for (let looks = 0; link.refused < 7; looks++) {
    ok(looks < 1000, "nobody looks again");
    await delay(20);
  }
  link.restore();
  await watching;
  deepEqual(types, ["queued", "started", "image", "succeeded"]);
  await generations.close();
});

testOnS3(
  "erasing a generation leaves no picture, whatever no row knows of or comes later",
  async ({ images, keys }) => {
    await using store = await openTestStore();
    await using room = await openTestRoom(store, {}, images);
    const generations = new DurableGenerations(room);
    const request = requestFrom("alice", { numImages: 2 });
    const start = (id: string, attempt: number) =>
      store.queries.updateTable("generations").set({ state: "running", attempt }).where("id", "=", id)
        .execute();
    const output = outputOf(request.input);
    const picture = (id: string, index: number) => ({
      key: imageKey(id, index),
      contentType: "image/png",
      data: Uint8Array.of(index),
      expiresAt: new Date(Date.now() + 60_000),
    });

    // an instance kept its pictures and died before it could say so
    const died = await accept(room, request);
    await start(died.id, 1);
    await room.images.put([picture(died.id, 0), picture(died.id, 1)]);
    equal(await generations.remove("alice", died.id), true);
    await untilEmpty(keys);

    // it was erased after another attempt had been quicker
    const slow = await accept(room, request);
    await start(slow.id, 1);
    await start(slow.id, 2);
    ok(await succeed(room, { id: slow.id, attempt: 2 }, output) !== undefined);
    equal(await succeed(room, { id: slow.id, attempt: 1 }, output), undefined);
    equal((await keys()).length, 2, "who is late takes nothing away");
    equal(await generations.remove("alice", slow.id), true);
    equal(await succeed(room, { id: slow.id, attempt: 1 }, output), undefined);
    await untilEmpty(keys);
    await generations.close();
  },
);

/** What a promise rejects with. */
async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(() => {
    throw new Error("it did not reject");
  }, (error) => error);
}

/** A store that is not the database and, as S3, knows nothing of when its pictures expire. */
class TestShelf implements ImageStore {
  readonly kept = new Set<string>();
  /** decides of each picture whether and when it comes to lie there */
  take: (key: string) => Promise<void> = () => Promise.resolve();

  async put(images: Parameters<ImageStore["put"]>[0]): Promise<void> {
    await Promise.all(images.map(async ({ key }) => {
      await this.take(key);
      this.kept.add(key);
    }));
  }

  get(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.kept.delete(key);
    return Promise.resolve();
  }

  removeExpired(): Promise<void> {
    return Promise.resolve();
  }
}

/** Begins an attempt of a generation, as a run does. */
async function begin({ queries }: Store, id: string, attempt: number): Promise<void> {
  await queries.updateTable("generations").set({ state: "running", attempt }).where("id", "=", id).execute();
}

/** When the pictures of a generation go, in seconds from now. */
async function secondsLeft({ queries }: Store, id: string): Promise<number[]> {
  const rows = await queries.selectFrom("generation_images").select("expires_at").where(
    "generation_id",
    "=",
    id,
  )
    .execute();
  return rows.map(({ expires_at }) => (expires_at.getTime() - Date.now()) / 1000);
}

/** Lets the time of pictures pass. */
async function age({ queries }: Store): Promise<void> {
  await queries.updateTable("generation_images").set({ expires_at: new Date(0) }).execute();
}

testOnEachStore("of a generation whose pictures are not all taken, none is kept", async ({ store }) => {
  const shelf = new TestShelf();
  await using room = await openTestRoom(store, { resultSeconds: 86_400 }, shelf);
  const executor = new ControlledExecutor();
  await using _running = await runGenerations(room, executor, { concurrency: 1, imagePauses: [1] });
  const { id } = await accept(room, requestFrom("alice", { numImages: 3 }));
  shelf.take = (key) =>
    key === imageKey(id, 1) ? Promise.reject(new ObjectStoreError("SlowDown")) : Promise.resolve();
  (await executor.next()).succeed();
  equal((await waitForEnd(room, id, never)).failure?.code, "image_store_unavailable");
  equal(shelf.kept.size, 2);
  const left = await secondsLeft(store, id);
  ok(
    left.length === 3 && left.every((seconds) => seconds < 3600),
    "in minutes, however long others are kept",
  );
  await age(store);
  await sweep(room);
  deepEqual([...shelf.kept, ...await secondsLeft(store, id)], []);
});

testOnEachStore(
  "what a run kept and died before it could say so goes with its generation",
  async ({ store }) => {
    const shelf = new TestShelf();
    await using room = await openTestRoom(store, {}, shelf);
    const request = requestFrom("alice", { numImages: 2 });
    const dies = async (id: string, attempt: number) => {
      await begin(store, id, attempt);
      const transaction = () => Promise.reject(new Error("died"));
      const dying = { ...room, store: { ...store, transaction } };
      await rejection(succeed(dying, { id, attempt }, outputOf(request.input)));
      await age(store);
    };

    const lost = await accept(room, request);
    await dies(lost.id, 1);
    await sweep(room);
    equal(shelf.kept.size, 2, "it may yet succeed");
    await withdraw(room, lost.id, "canceled");
    await sweep(room);
    deepEqual([...shelf.kept], []);

    const found = await accept(room, request);
    await dies(found.id, 1);
    await begin(store, found.id, 2);
    ok(await succeed(room, { id: found.id, attempt: 2 }, outputOf(request.input)) !== undefined);
    await sweep(room);
    equal(shelf.kept.size, 2, "its time counts from the run that succeeded");
    equal((await secondsLeft(store, found.id)).length, 2);
  },
);

testOnEachStore(
  "pictures that come to lie there after their generation was erased go again",
  async ({ store }) => {
    const shelf = new TestShelf();
    await using room = await openTestRoom(store, {}, shelf);
    const generations = new DurableGenerations(room);
    const request = requestFrom("alice");
    const { id } = await accept(room, request);
    await begin(store, id, 1);
    const coming = Promise.withResolvers<void>();
    const come = Promise.withResolvers<void>();
    shelf.take = () => {
      coming.resolve();
      return come.promise;
    };
    const late = succeed(room, { id, attempt: 1 }, outputOf(request.input));
    await coming.promise;
    equal(await generations.remove("alice", id), true);
    equal((await secondsLeft(store, id)).length, 1, "should the run die now, the sweep knows");
    await age(store);
    await sweep(room);
    come.resolve();
    equal(await late, undefined);
    equal(shelf.kept.size, 1);
    await sweep(room);
    deepEqual([...shelf.kept], []);
    // whoever comes later still puts nothing there
    equal(await succeed(room, { id, attempt: 1 }, outputOf(request.input)), undefined);
    deepEqual([...shelf.kept], []);
    await generations.close();
  },
);
