import { deepEqual, equal, ok } from "node:assert/strict";
import type { Generation, GenerationEvent } from "../../jobs/generation.ts";
import { FINAL_EVENT, GenerationRecord } from "../../jobs/generation_record.ts";
import type { GeneratedImage } from "../../pipeline/protocol.ts";

const image = (index: number): GeneratedImage => ({
  index,
  seed: index,
  contentType: "image/png",
  width: 1,
  height: 1,
  data: Uint8Array.of(index),
  identitySimilarity: null,
});

const queued: Generation = {
  id: "gen_1",
  account: "alice",
  requestId: "r1",
  model: "m",
  numImages: 2,
  numInferenceSteps: 4,
  price: 3,
  createdAt: new Date(0),
  status: "queued",
  progress: null,
  images: [],
  timings: null,
  failure: null,
  expiresAt: null,
  lastEvent: 0,
};
const succeeded: Generation = {
  ...queued,
  status: "succeeded",
  images: [image(0), image(1)],
  expiresAt: new Date(1),
};

const preview = (index: number, step: number) => ({
  type: "preview" as const,
  preview: {
    index,
    step,
    steps: 4,
    contentType: "image/jpeg" as const,
    width: 1,
    height: 1,
    data: Uint8Array.of(step),
  },
});

async function eventsOf(record: GenerationRecord, after = 0): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of record.watch(after)) events.push(event);
  return events;
}

const typesOf = (events: readonly GenerationEvent[]) => events.map(({ type }) => type);

Deno.test("whoever watches sees it all, early or late", async () => {
  const record = new GenerationRecord(queued);
  const live = eventsOf(record);
  record.receive({ type: "started" });
  record.receive({ type: "started" });
  record.receive({ type: "progress", progress: { stage: "denoise", step: 1, steps: 4 } });
  record.receive({ type: "image", image: image(1) });
  record.receive({ type: "image", image: image(1) });
  equal(record.generation.status, "running");
  record.finish(succeeded);
  record.finish({ ...queued, status: "canceled" });
  record.receive({ type: "progress", progress: { stage: "encode", step: 4, steps: 4 } });
  const events = await live;
  deepEqual(typesOf(events), ["queued", "started", "progress", "image", "image", "succeeded"]);
  deepEqual(events.map(({ number }) => number), [1, 2, 3, 4, 5, FINAL_EVENT]);
  deepEqual(await eventsOf(record), events);
  deepEqual((await eventsOf(record, 4)).map(({ number }) => number), [5, FINAL_EVENT]);
  deepEqual(await eventsOf(record, FINAL_EVENT), []);
});

Deno.test("of previews the newest of each picture is kept, and none in the end", async () => {
  const record = new GenerationRecord(queued);
  for (const step of [1, 2]) for (const index of [0, 1]) record.receive(preview(index, step));
  const watched: GenerationEvent[] = [];
  for await (const event of record.watch(0)) {
    watched.push(event);
    if (watched.length === 3) break;
  }
  const steps = watched.map((event) => event.type === "preview" ? event.preview.step : undefined);
  deepEqual(steps, [undefined, 2, 2]);
  const bytes = record.bytes;
  record.finish({
    ...queued,
    status: "canceled",
    failure: { code: "canceled", message: "canceled", details: {} },
  });
  deepEqual(typesOf(await eventsOf(record)), ["queued", "failed"]);
  ok(record.bytes < bytes);
});

Deno.test("a generation that failed tells of no pictures", async () => {
  const record = new GenerationRecord(queued);
  record.receive({ type: "image", image: image(0) });
  record.finish({ ...queued, status: "expired" });
  deepEqual(typesOf(await eventsOf(record)), ["queued", "failed"]);
});

Deno.test("one that is over is told from what is kept; live numbers never hide pictures or end", async () => {
  const kept = new GenerationRecord(succeeded);
  deepEqual(typesOf(await eventsOf(kept)), ["queued", "started", "image", "image", "succeeded"]);
  const late = await eventsOf(kept, 500);
  deepEqual(typesOf(late), ["image", "image", "succeeded"]);
  deepEqual(typesOf(await eventsOf(kept, late[0]!.number)), ["image", "succeeded"]);
  deepEqual(typesOf(await eventsOf(kept, late[1]!.number)), ["succeeded"]);
  const running = new GenerationRecord({ ...queued, status: "running" });
  const live = eventsOf(running, 500);
  running.finish(succeeded);
  deepEqual(typesOf(await live), ["image", "image", "succeeded"]);
});

Deno.test("who leaves is let go, with what there was", async () => {
  const record = new GenerationRecord(queued);
  const leave = new AbortController();
  const events: GenerationEvent[] = [];
  const watching = (async () => {
    for await (const event of record.watch(0, leave.signal)) events.push(event);
  })();
  leave.abort();
  await watching;
  deepEqual(typesOf(events), ["queued"]);
});
