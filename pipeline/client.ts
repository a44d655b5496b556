import type { SessionSettings } from "../models/sessions.ts";
import {
  type FaceReport,
  type GenerateInput,
  type GenerateOutput,
  type GenerateProgress,
  type Inference,
  PipelineError,
  type WorkerRequest,
  type WorkerResponse,
} from "./protocol.ts";

/** Which model to serve, and where. */
export interface InferenceSettings extends SessionSettings {
  /** folder of the model bundle */
  readonly bundle: string;
}

/** An answer that is still to come. */
interface PendingCall {
  readonly resolve: (answer: GenerateOutput | FaceReport) => void;
  readonly reject: (error: PipelineError) => void;
  readonly onProgress: ((progress: GenerateProgress) => void) | undefined;
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
  const client = launchInference(settings);
  await client.loaded;
  return client;
}

/**
 * Starts the inference worker without waiting, so that a service can answer health checks while it loads.
 *
 * @param settings bundle, provider and threads
 * @returns the worker's handle; await `loaded` somewhere, as a failure to load is told there
 *
 * @example
 * ```ts
 * const inference = launchInference(settings);
 * inference.loaded.catch((error) => stop(error));
 * ```
 */
export function launchInference(settings: InferenceSettings): InferenceClient {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "inference" });
  return new InferenceClient(worker, settings);
}

/** The main thread's side of the protocol: one object a worker. */
export class InferenceClient implements Inference {
  /** settles when the bundle is loaded and warm, or cannot be */
  readonly loaded: Promise<void>;
  readonly #worker: Worker;
  readonly #calls = new Map<number, PendingCall>();
  readonly #load = Promise.withResolvers<void>();
  #nextId = 1;
  #ready = false;
  /** why no call can be taken any more */
  #end: PipelineError | undefined;

  /**
   * Takes charge of a worker and tells it to load.
   *
   * @param worker a fresh worker that runs `worker.ts`
   * @param settings bundle, provider and threads
   */
  constructor(worker: Worker, { bundle, provider, threads }: InferenceSettings) {
    this.#worker = worker;
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
    this.#send({ type: "load", bundle, provider, threads });
  }

  /** @inheritDoc */
  get ready(): boolean {
    return this.#ready;
  }

  /** @inheritDoc */
  async generate(
    input: GenerateInput,
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: GenerateProgress) => void } =
      {},
  ): Promise<GenerateOutput> {
    await this.loaded;
    const { signal, onProgress } = options;
    if (signal?.aborted) throw new PipelineError("canceled", "The generation was canceled before it began");
    // Copies (not `slice`, which shares memory in Node.js buffers): the caller keeps its photos.
    const referenceImages = input.referenceImages.map((photo) => new Uint8Array(photo));
    const id = this.#nextId++;
    const cancel = () => this.#send({ type: "cancel", id });
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await this.#call<GenerateOutput>(
        { type: "generate", id, input: { ...input, referenceImages } },
        referenceImages.map((photo) => photo.buffer),
        onProgress,
      );
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** @inheritDoc */
  async checkFace(photo: Uint8Array): Promise<FaceReport> {
    await this.loaded;
    const copy = new Uint8Array(photo);
    return await this.#call<FaceReport>({ type: "check_face", id: this.#nextId++, photo: copy }, [
      copy.buffer,
    ]);
  }

  /** @inheritDoc */
  close(): Promise<void> {
    this.#finish(new PipelineError("canceled", "The inference worker was closed"));
    return Promise.resolve();
  }

  #call<Answer extends GenerateOutput | FaceReport>(
    request: Extract<WorkerRequest, { id: number }>,
    transfer: ArrayBuffer[],
    onProgress?: (progress: GenerateProgress) => void,
  ): Promise<Answer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const { promise, resolve, reject } = Promise.withResolvers<GenerateOutput | FaceReport>();
    this.#calls.set(request.id, { resolve, reject, onProgress });
    this.#send(request, transfer);
    return promise as Promise<Answer>;
  }

  #send(request: WorkerRequest, transfer: ArrayBuffer[] = []): void {
    if (this.#end === undefined) this.#worker.postMessage(request, transfer);
  }

  #receive(response: WorkerResponse): void {
    switch (response.type) {
      case "loaded":
        this.#ready = true;
        return this.#load.resolve();
      case "load_failed":
        return this.#finish(new PipelineError("worker_failed", response.message));
      case "progress":
        return this.#calls.get(response.id)?.onProgress?.(response.progress);
      case "generated":
        return this.#take(response.id)?.resolve(response.output);
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
    this.#finish(
      new PipelineError("worker_failed", "The inference worker stopped: the service must be restarted"),
    );
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
