/** Figures of the process, for Prometheus. */

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Generation, GenerationEvent } from "../jobs/generation.ts";
import type { InferenceLoad } from "../pipeline/inference.ts";
import type { Measurements } from "../pipeline/messages.ts";

/** What is looked up whenever somebody asks for the figures. */
export interface MetricSources {
  /** undefined until the model is loaded */
  readonly load: () => InferenceLoad | undefined;
  /** generations in the queue, over all instances */
  readonly waiting: () => Promise<number>;
  /** generations that are followed here */
  readonly kept: () => { readonly generations: number; readonly bytes: number };
  /** resident memory of the process, in bytes */
  readonly residentMemory: () => number;
  /** codes of every problem that there is */
  readonly problemCodes: readonly string[];
}

const terminalStatuses = [
  "succeeded",
  "failed",
  "canceled",
  "expired",
] as const satisfies Generation["status"][];
const STEP_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const STAGE_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const BATCH_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64];

/**
 * Counts and measures; `metrics()` and `contentType` of its {@linkcode registry} are the page.
 *
 * @example
 * ```ts
 * const metrics = new ServiceMetrics(sources);
 * const inference = await startInference({ ...settings, onMeasured: (measured) => metrics.addMeasurements(measured) });
 * console.log(await metrics.registry.metrics());
 * ```
 */
export class ServiceMetrics {
  /** holds every figure */
  readonly registry = new Registry();
  readonly #batchPictures = this.#histogram(
    "batch_pictures",
    "Pictures that shared a denoising step",
    BATCH_SIZES,
  );
  readonly #stepSeconds = this.#histogram(
    "step_seconds",
    "Seconds of a denoising step of the batch",
    STEP_SECONDS,
  );
  readonly #stageSeconds = new Histogram({
    name: "idadapter_stage_seconds",
    help: "Seconds of a finished generation by stage, waiting for others included",
    labelNames: ["stage"],
    buckets: STAGE_SECONDS,
    registers: [this.registry],
  });
  readonly #graphSeconds = this.#counter("graph_seconds_total", "Seconds inside ONNX Runtime by graph", [
    "graph",
  ]);
  readonly #graphRuns = this.#counter("graph_runs_total", "Runs of each graph", ["graph"]);
  readonly #generations = this.#counter("generations_total", "Finished generations by how they ended", [
    "status",
  ]);
  readonly #images = this.#counter("images_total", "Portraits of generations that succeeded", []);
  readonly #failures = this.#counter("failures_total", "Generations that failed or were canceled, by code", [
    "code",
  ]);
  readonly #begunAgain = this.#counter(
    "generations_begun_again_total",
    "Generations begun again here because an instance died or a run failed",
    [],
  );
  readonly #problems = this.#counter("problems_total", "Requests answered with a problem, by code", ["code"]);

  /** @param sources what is looked up when the page is asked for */
  constructor({ load, waiting, kept, residentMemory, problemCodes }: MetricSources) {
    // from the start, for what first appears with a value above 0 has risen by nothing to `rate`
    for (const status of terminalStatuses) this.#generations.inc({ status }, 0);
    for (const code of problemCodes) {
      this.#failures.inc({ code }, 0);
      this.#problems.inc({ code }, 0);
    }
    this.#gauge("generations_waiting", "Generations in the queue of all instances", waiting);
    this.#gauge("generations_running", "Generations under way", () => load()?.running ?? 0);
    this.#gauge("queue_limit", "Most generations that may wait", () => load()?.maxQueue ?? 0);
    this.#gauge("batch_limit", "Most pictures in a batch", () => load()?.maxBatch ?? 0);
    this.#gauge("kept_generations", "Generations that are followed", () => kept().generations);
    this.#gauge("kept_bytes", "Memory of what is followed, roughly", () => kept().bytes);
    this.#gauge("resident_memory_bytes", "Resident memory of the process", residentMemory);
  }

  /** Takes what the inference worker measured. */
  addMeasurements({ ticks, graphs }: Measurements): void {
    for (const { pictures, seconds } of ticks) {
      this.#batchPictures.observe(pictures);
      this.#stepSeconds.observe(seconds);
    }
    for (const { graph, seconds } of graphs) {
      this.#graphSeconds.inc({ graph }, seconds);
      this.#graphRuns.inc({ graph });
    }
  }

  /** Takes what happened to a generation. */
  addEvent({ status, images, timings, failure }: Generation, { type }: GenerationEvent): void {
    if (type !== "succeeded" && type !== "failed") return;
    this.#generations.inc({ status });
    this.#images.inc(images.length);
    if (failure !== null) this.#failures.inc({ code: failure.code });
    for (const [stage, seconds] of Object.entries(timings ?? {})) {
      this.#stageSeconds.observe({ stage }, seconds);
    }
  }

  /** A generation is begun again: the run before it, here or elsewhere, came to no end. */
  addBegunAgain(): void {
    this.#begunAgain.inc();
  }

  /** A request was answered with a problem. */
  addProblem(code: string): void {
    this.#problems.inc({ code });
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `idadapter_${name}`, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new Histogram({ name: `idadapter_${name}`, help, buckets, registers: [this.registry] });
  }

  #gauge(name: string, help: string, read: () => number | Promise<number>): void {
    new Gauge({
      name: `idadapter_${name}`,
      help,
      registers: [this.registry],
      async collect() {
        this.set(await read());
      },
    });
  }
}
