import { reportFaces } from "./check_face.ts";
import { findFaces } from "./faces.ts";
import { generate } from "./generate.ts";
import { decodePhoto } from "./photo.ts";
import { loadPipeline, type Pipeline } from "./pipeline.ts";
import { type FaceReport, PipelineError, type WorkerRequest, type WorkerResponse } from "./protocol.ts";
import { nextMacrotask } from "./stages.ts";
import { warmUp } from "./warm_up.ts";

/** Sends a response to the main thread; buffers in `transfer` change hands. */
export type Post = (response: WorkerResponse, transfer: ArrayBuffer[]) => void;

type GenerateRequest = Extract<WorkerRequest, { type: "generate" }>;

/** On CUDA every batch size is a shape of its own to warm; 8 is the most pictures a request may ask for. */
const CUDA_PICTURES = [1, 2, 3, 4, 5, 6, 7, 8];

/**
 * The worker's side of the protocol: takes requests in, decides what runs when, and posts the answers.
 *
 * Generations run one after another, first come first served. A photo to check goes before the next denoising step of
 * a running generation; it takes milliseconds, a generation seconds.
 *
 * @example
 * ```ts
 * const desk = new InferenceDesk((response, transfer) => self.postMessage(response, transfer));
 * self.onmessage = ({ data }) => desk.receive(data);
 * ```
 */
export class InferenceDesk {
  readonly #post: Post;
  #pipeline: Pipeline | undefined;
  #waiting: GenerateRequest[] = [];
  #running: { readonly id: number; readonly controller: AbortController } | undefined;
  /** settles when every photo that came so far is checked */
  #checks: Promise<void> = Promise.resolve();

  /** @param post how answers leave */
  constructor(post: Post) {
    this.#post = post;
  }

  /**
   * Takes one request in; answers come later, by `post`.
   *
   * @throws {TypeError} the message is none of the protocol's: a fault of this program, after which nothing the
   *   worker says can be trusted
   */
  receive(request: WorkerRequest): void {
    switch (request.type) {
      case "load":
        return void this.#load(request);
      case "generate":
        this.#waiting.push(request);
        return void this.#work();
      case "check_face":
        this.#checks = this.#checks.then(() => this.#checkFace(request.id, request.photo));
        return;
      case "cancel":
        return this.#cancel(request.id);
      default:
        throw new TypeError(`unknown message ${JSON.stringify((request as { type: unknown }).type)}`);
    }
  }

  async #load({ bundle, provider, threads }: Extract<WorkerRequest, { type: "load" }>): Promise<void> {
    try {
      const pipeline = await loadPipeline(bundle, { provider, threads });
      await warmUp(pipeline, provider === "cuda" ? CUDA_PICTURES : [1]);
      this.#pipeline = pipeline;
      this.#post({ type: "loaded" }, []);
    } catch (error) {
      this.#post(
        { type: "load_failed", message: error instanceof Error ? error.message : String(error) },
        [],
      );
    }
  }

  /** Runs what is waiting, one generation at a time, until nothing is. */
  async #work(): Promise<void> {
    if (this.#running !== undefined) return;
    for (let request = this.#waiting.shift(); request !== undefined; request = this.#waiting.shift()) {
      const controller = new AbortController();
      this.#running = { id: request.id, controller };
      await this.#generate(request, controller.signal);
      this.#running = undefined;
    }
  }

  async #generate({ id, input }: GenerateRequest, signal: AbortSignal): Promise<void> {
    try {
      const output = await generate(this.#loaded(), input, {
        signal,
        onProgress: (progress) => this.#post({ type: "progress", id, progress }, []),
        giveWay: () => this.#giveWay(),
      });
      this.#post({ type: "generated", id, output }, output.images.map((image) => image.data.buffer));
    } catch (error) {
      this.#fail(id, error);
    }
  }

  /** One turn of the event loop, for messages to come in, then whatever photos came with them. */
  async #giveWay(): Promise<void> {
    await nextMacrotask();
    await this.#checks;
  }

  async #checkFace(id: number, bytes: Uint8Array): Promise<void> {
    try {
      this.#post({ type: "face_checked", id, report: await this.#report(bytes) }, []);
    } catch (error) {
      this.#fail(id, error);
    }
  }

  async #report(bytes: Uint8Array): Promise<FaceReport> {
    const { models, manifest: { faces } } = this.#loaded();
    const photo = await decodePhoto(bytes);
    return reportFaces(photo, await findFaces(photo, models, faces), faces.recognizer);
  }

  #cancel(id: number): void {
    if (this.#running?.id === id) return this.#running.controller.abort();
    const place = this.#waiting.findIndex((request) => request.id === id);
    if (place === -1) return; // already answered: the cancellation crossed the answer
    this.#waiting.splice(place, 1);
    this.#fail(id, new PipelineError("canceled", "The generation was canceled before it began"));
  }

  #loaded(): Pipeline {
    if (this.#pipeline === undefined) throw new PipelineError("worker_failed", "The model is not loaded");
    return this.#pipeline;
  }

  #fail(id: number, error: unknown): void {
    const refused = error instanceof PipelineError;
    // Shapes and paths of the program at most: no graph or codec puts pixels or words into its errors.
    if (!refused) console.error("inference failed:", error);
    const { code, message, details } = refused
      ? error
      : new PipelineError("worker_failed", "Making the portraits failed: send the request again");
    this.#post({ type: "failed", id, code, message, details }, []);
  }
}
