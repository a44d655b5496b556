import type { SessionSettings } from "../models/sessions.ts";
import type { GenerateOptions, Inference, InferenceLoad } from "./inference.ts";
import type { Measurements, WorkerRequest, WorkerResponse } from "./messages.ts";
import {
  type FaceReport,
  type GeneratedImage,
  type GenerateInput,
  type GenerateOutput,
  PipelineError,
} from "./protocol.ts";
import { RunningGenerations } from "./running_generations.ts";
import { reasonOf } from "./turns.ts";

/** Which model to serve, where, and for how many at once. */
export interface InferenceSettings extends Pick<SessionSettings, "provider" | "threads" | "cacheFolder"> {
  /** folder of the model bundle */
  readonly bundle: string;
  /** most pictures in a batch; measured when left out */
  readonly maxBatch?: number;
  /** most generations that may wait for a place; 64 when left out */
  readonly maxQueue?: number;
  /** told what the worker measures, after each step of the batch */
  readonly onMeasured?: (measurements: Measurements) => void;
  /** told when the loaded worker has died: nothing more comes of it */
  readonly onDied?: () => void;
}

const DEFAULT_MAX_QUEUE = 64;

/** An answer that is still to come. */
interface PendingCall {
  readonly resolve: (answer: GenerateOutput | FaceReport) => void;
  readonly reject: (error: PipelineError) => void;
  readonly onEvent: NonNullable<GenerateOptions["onEvent"]>;
  /** of a generation, so far */
  readonly images: GeneratedImage[];
}

/**
 * Starts the inference worker, has it load the bundle, and waits until it is ready.
 *
 * @param settings bundle, provider and threads
 * @returns the worker's handle; close it to let the process end
 * @throws {PipelineError} `worker_failed` when the bundle cannot be loaded or the provider is not usable
 *
 * @example
 * ```ts
 * const inference = await startInference({ bundle: "models/default", provider: "cpu", threads: 2 });
 * const { images } = await inference.generate(input, { signal: AbortSignal.timeout(60_000) });
 * await inference.close();
 * ```
 */
export async function startInference(settings: InferenceSettings): Promise<Inference> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "inference" });
  const client = new InferenceClient(worker, settings);
  await client.loaded;
  return client;
}

/** The main thread's side of the protocol: one object a worker. */
export class InferenceClient implements Inference {
  /** settles when the bundle is loaded and warm, or cannot be */
  readonly loaded: Promise<void>;
  readonly #worker: Worker;
  readonly #settings: InferenceSettings;
  readonly #calls = new Map<number, PendingCall>();
  readonly #load = Promise.withResolvers<void>();
  readonly #generations: RunningGenerations;
  #nextId = 1;
  #ready = false;
  /** why no call can be taken any more */
  #end: PipelineError | undefined;

  /**
   * Takes charge of a worker and tells it to load.
   *
   * @param worker a fresh worker that runs `worker.ts`
   * @param settings bundle, provider, threads and limits
   */
  constructor(worker: Worker, settings: InferenceSettings) {
    const { bundle, provider, threads, cacheFolder, maxBatch = null, maxQueue = DEFAULT_MAX_QUEUE } =
      settings;
    this.#worker = worker;
    this.#settings = settings;
    this.#generations = new RunningGenerations(maxBatch ?? 1, maxQueue);
    this.loaded = this.#load.promise;
    // A caller who waits for a call instead of for `loaded` hears of the failure there.
    this.loaded.catch(() => {});
    worker.onmessage = ({ data }: MessageEvent<WorkerResponse>) => this.#receive(data);
    worker.onerror = (event) => {
      // Unhandled, the error would end the whole process.
      event.preventDefault();
      this.#die(event.message);
    };
    worker.onmessageerror = () => this.#die("a message could not be read");
    this.#send({ type: "load", bundle, provider, threads, cacheFolder, maxBatch });
  }

  /** @inheritDoc */
  get ready(): boolean {
    return this.#ready;
  }

  /** @inheritDoc */
  get load(): InferenceLoad {
    return this.#generations.load;
  }

  /** @inheritDoc */
  requireRoom(): void {
    this.#generations.requireRoom();
  }

  /** @inheritDoc */
  async generate(input: GenerateInput, options: GenerateOptions = {}): Promise<GenerateOutput> {
    this.#generations.requireRoom();
    const id = this.#nextId++;
    this.#generations.add(id);
    const { signal, onEvent = () => {}, previewInterval = 0 } = options;
    const cancel = () => this.#send({ type: "cancel", id });
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      await this.loaded;
      if (signal?.aborted) throw reasonOf(signal);
      // Copies (not `slice`, which shares memory in Node.js buffers): the caller keeps its photos.
      const referenceImages = input.referenceImages.map((photo) => new Uint8Array(photo));
      return await this.#call<GenerateOutput>(
        { type: "generate", id, input: { ...input, referenceImages }, previewInterval },
        referenceImages.map((photo) => photo.buffer),
        (event) => {
          if (event.type === "started") this.#generations.start(id);
          onEvent(event);
        },
      );
    } catch (error) {
      // The worker knows that the generation was canceled, the signal knows why.
      if (error instanceof PipelineError && error.code === "canceled" && signal?.aborted) {
        throw reasonOf(signal);
      }
      throw error;
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.#generations.remove(id);
    }
  }

  /** @inheritDoc */
  async checkFace(photo: Uint8Array, signal?: AbortSignal): Promise<FaceReport> {
    await this.loaded;
    signal?.throwIfAborted();
    const id = this.#nextId++;
    const cancel = () => this.#send({ type: "cancel", id });
    signal?.addEventListener("abort", cancel, { once: true });
    const copy = new Uint8Array(photo);
    try {
      return await this.#call<FaceReport>({ type: "check_face", id, photo: copy }, [copy.buffer]);
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** @inheritDoc */
  close(): Promise<void> {
    this.#finish(new PipelineError("canceled", "The inference worker was closed"));
    return Promise.resolve();
  }

  #call<Answer extends GenerateOutput | FaceReport>(
    request: Extract<WorkerRequest, { id: number }>,
    transfer: ArrayBuffer[],
    onEvent: PendingCall["onEvent"] = () => {},
  ): Promise<Answer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput | FaceReport>();
    this.#calls.set(request.id, { resolve, reject, onEvent, images: [] });
    this.#send(request, transfer);
    return promise as Promise<Answer>;
  }

  #send(request: WorkerRequest, transfer: ArrayBuffer[] = []): void {
    if (this.#end === undefined) this.#worker.postMessage(request, transfer);
  }

  #receive(response: WorkerResponse): void {
    switch (response.type) {
      case "loaded":
        this.#generations.maxBatch = response.maxBatch;
        this.#ready = true;
        return this.#load.resolve();
      case "load_failed":
        return this.#finish(new PipelineError("worker_failed", response.message));
      case "measured":
        return this.#settings.onMeasured?.(response.measurements);
      case "event": {
        const call = this.#calls.get(response.id);
        if (response.event.type === "image") call?.images.push(response.event.image);
        return call?.onEvent(response.event);
      }
      case "generated": {
        const call = this.#take(response.id);
        const images = call?.images.toSorted((one, other) => one.index - other.index) ?? [];
        return call?.resolve({ images, timings: response.timings });
      }
      case "face_checked":
        return this.#take(response.id)?.resolve(response.report);
      case "failed":
        return this.#take(response.id)?.reject(
          new PipelineError(response.code, response.message, response.details),
        );
    }
  }

  #take(id: number): PendingCall | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    return call;
  }

  #die(reason: string): void {
    console.error("the inference worker died:", reason);
    const served = this.#ready;
    this.#finish(
      new PipelineError("worker_failed", "The inference worker stopped: the service must be restarted"),
    );
    if (served) this.#settings.onDied?.();
  }

  /** No more calls: those under way and those to come are rejected with `error`. */
  #finish(error: PipelineError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#ready = false;
    this.#load.reject(error);
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
    this.#worker.terminate();
  }
}
