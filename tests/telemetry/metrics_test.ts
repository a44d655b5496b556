import { equal, match, ok } from "node:assert/strict";
import type { Generation } from "../../jobs/generation.ts";
import { ServiceMetrics } from "../../telemetry/metrics.ts";

const finished: Generation = {
  id: "gen_1",
  account: "alice",
  requestId: "r1",
  model: "m",
  numImages: 2,
  numInferenceSteps: 4,
  price: 33,
  createdAt: new Date(0),
  status: "succeeded",
  progress: null,
  images: [],
  timings: { queue: 0.2, references: 0.1, prompt: 0.1, denoise: 2, decode: 0.1, encode: 0.1, total: 2.6 },
  failure: null,
  expiresAt: null,
  lastEvent: 3,
};

/** The value of one line of the page. */
function valueOf(page: string, series: string): number {
  const line = page.split("\n").find((text) => text.startsWith(`${series} `));
  ok(line !== undefined, `${series} is not among\n${page}`);
  return Number(line.slice(series.length + 1));
}

Deno.test("the page tells queue, batches, stages, images and failures", async () => {
  const metrics = new ServiceMetrics({
    load: () => ({ running: 3, waiting: 0, maxBatch: 8, maxQueue: 64 }),
    waiting: () => Promise.resolve(5),
    kept: () => ({ generations: 9, bytes: 1000 }),
    residentMemory: () => 123_456,
    problemCodes: ["queue_full", "canceled", "worker_failed"],
  });
  metrics.addMeasurements({
    ticks: [{ pictures: 3, seconds: 0.2 }, { pictures: 5, seconds: 0.3 }],
    graphs: [{ graph: "unet", seconds: 0.25 }, { graph: "unet", seconds: 0.5 }],
  });
  const images = [1, 2].map((index) => ({
    index,
    seed: 1,
    contentType: "image/png" as const,
    width: 1,
    height: 1,
    data: new Uint8Array(1),
    identitySimilarity: null,
  }));
  const generation = { ...finished, images };
  metrics.addEvent(generation, { type: "queued", number: 1, generation });
  metrics.addEvent(generation, { type: "succeeded", number: 3, generation });
  const failed: Generation = {
    ...finished,
    status: "canceled",
    timings: null,
    failure: { code: "canceled", message: "", details: {} },
  };
  metrics.addEvent(failed, { type: "failed", number: 3, generation: failed });
  metrics.addProblem("queue_full");
  metrics.addBegunAgain();
  match(metrics.registry.contentType, /^text\/plain; version=0\.0\.4/);
  const page = await metrics.registry.metrics();
  const expected: Record<string, number> = {
    idadapter_generations_waiting: 5,
    idadapter_generations_running: 3,
    idadapter_queue_limit: 64,
    idadapter_batch_limit: 8,
    idadapter_kept_generations: 9,
    idadapter_kept_bytes: 1000,
    idadapter_resident_memory_bytes: 123_456,
    idadapter_batch_pictures_sum: 8,
    idadapter_batch_pictures_count: 2,
    'idadapter_batch_pictures_bucket{le="4"}': 1,
    idadapter_step_seconds_sum: 0.5,
    'idadapter_stage_seconds_sum{stage="denoise"}': 2,
    'idadapter_stage_seconds_count{stage="queue"}': 1,
    'idadapter_graph_seconds_total{graph="unet"}': 0.75,
    'idadapter_graph_runs_total{graph="unet"}': 2,
    'idadapter_generations_total{status="succeeded"}': 1,
    'idadapter_generations_total{status="canceled"}': 1,
    idadapter_images_total: 2,
    idadapter_generations_begun_again_total: 1,
    'idadapter_failures_total{code="canceled"}': 1,
    'idadapter_problems_total{code="queue_full"}': 1,
  };
  for (const [series, value] of Object.entries(expected)) equal(valueOf(page, series), value, series);
});

Deno.test("before the model is loaded the page is there all the same", async () => {
  const metrics = new ServiceMetrics({
    load: () => undefined,
    waiting: () => Promise.resolve(0),
    kept: () => ({ generations: 0, bytes: 0 }),
    residentMemory: () => 1,
    problemCodes: ["worker_failed"],
  });
  const page = await metrics.registry.metrics();
  equal(valueOf(page, "idadapter_generations_waiting"), 0);
  for (
    const series of [
      'generations_total{status="expired"}',
      'failures_total{code="worker_failed"}',
      'problems_total{code="worker_failed"}',
      "generations_begun_again_total",
    ]
  ) equal(valueOf(page, `idadapter_${series}`), 0, series);
});
