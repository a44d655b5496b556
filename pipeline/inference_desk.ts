import { reportFaces } from "./check_face.ts";
import { Engine } from "./engine.ts";
import { findFaces } from "./faces.ts";
import { MeasurementLog } from "./measurement_log.ts";
import type { WorkerRequest, WorkerResponse } from "./messages.ts";
import { withPhoto } from "./photo.ts";
import { loadPipeline, type Pipeline } from "./pipeline.ts";
import { type FaceReport, type GenerateEvent, PipelineError } from "./protocol.ts";
import { warmUp } from "./warm_up.ts";

/** Sends a response to the main thread; buffers in `transfer` change hands. */
export type Post = (response: WorkerResponse, transfer: ArrayBuffer[]) => void;

type Request<Type extends WorkerRequest["type"]> = Extract<WorkerRequest, { type: Type }>;

/**
 * The worker's side of the protocol: takes requests in, has the engine run them, and posts what happens to them.
 *
 * @example
 * ```ts
 * const desk = new InferenceDesk((response, transfer) => self.postMessage(response, transfer));
 * self.onmessage = ({ data }) => desk.receive(data);
 * ```
 */
export class InferenceDesk {
  readonly #post: Post;
  readonly #measured: MeasurementLog;
  readonly #running = new Map<number, AbortController>();
  /** ends when the photo checks before have; photos of generations wait for one of them at most */
  #checked: Promise<unknown> = Promise.resolve();
  #served: { readonly pipeline: Pipeline; readonly engine: Engine } | undefined;

  /** @param post how answers leave */
  constructor(post: Post) {
    this.#post = post;
    this.#measured = new MeasurementLog((measurements) => post({ type: "measured", measurements }, []));
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
        return void this.#generate(request);
      case "check_face":
        return void this.#checkFace(request);
      case "cancel":
        // Unknown ones are answered already: the cancellation crossed the answer.
        return this.#running.get(request.id)?.abort();
      default:
        throw new TypeError(`unknown message ${JSON.stringify((request as { type: unknown }).type)}`);
    }
  }

  async #load({ bundle, provider, threads, cacheFolder, maxBatch: wanted }: Request<"load">): Promise<void> {
    try {
      const onRun = this.#measured.addRun.bind(this.#measured);
      const pipeline = await loadPipeline(bundle, { provider, threads, cacheFolder, onRun });
      const maxBatch = await warmUp(pipeline, { provider, maxBatch: wanted });
      this.#measured.clear();
      const onTick = this.#measured.addTick.bind(this.#measured);
      this.#served = { pipeline, engine: new Engine(pipeline, { maxBatch, onTick }) };
      this.#post({ type: "loaded", maxBatch }, []);
    } catch (error) {
      this.#post(
        { type: "load_failed", message: error instanceof Error ? error.message : String(error) },
        [],
      );
    }
  }

  async #generate({ id, input, previewInterval }: Request<"generate">): Promise<void> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      const { timings } = await this.#loaded().engine.generate(input, {
        signal: controller.signal,
        previewInterval,
        onEvent: (event) => this.#post({ type: "event", id, event }, buffersOf(event)),
      });
      this.#measured.flush();
      this.#post({ type: "generated", id, timings }, []);
    } catch (error) {
      this.#fail(id, error);
    } finally {
      this.#running.delete(id);
    }
  }

  async #checkFace({ id, photo: bytes }: Request<"check_face">): Promise<void> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    const before = this.#checked;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#checked = promise;
    try {
      await before;
      if (controller.signal.aborted) {
        throw new PipelineError("canceled", "Nobody waits for this check any more");
      }
      const report = await this.#report(bytes);
      this.#measured.flush();
      this.#post({ type: "face_checked", id, report }, []);
    } catch (error) {
      this.#fail(id, error);
    } finally {
      resolve();
      this.#running.delete(id);
    }
  }

  async #report(bytes: Uint8Array): Promise<FaceReport> {
    const { pipeline: { models, manifest: { faces } }, engine } = this.#loaded();
    // Not in the turn: a large photo takes longer than a step, and needs no graph.
    return await withPhoto(
      bytes,
      (photo) =>
        engine.soon(async () => reportFaces(photo, await findFaces(photo, models, faces), faces.recognizer)),
    );
  }

  #loaded(): { readonly pipeline: Pipeline; readonly engine: Engine } {
    if (this.#served === undefined) throw new PipelineError("worker_failed", "The model is not loaded");
    return this.#served;
  }

  #fail(id: number, error: unknown): void {
    this.#measured.flush();
    const refused = error instanceof PipelineError;
    // Shapes and paths of the program at most: no graph or codec puts pixels or words into its errors.
    if (!refused) console.error("inference failed:", error);
    const { code, message, details } = refused
      ? error
      : new PipelineError("internal_error", "Making the portraits failed: send the request again");
    this.#post({ type: "failed", id, code, message, details }, []);
  }
}

function buffersOf(event: GenerateEvent): ArrayBuffer[] {
  switch (event.type) {
    case "image":
      return [event.image.data.buffer];
    case "preview":
      return [event.preview.data.buffer];
    default:
      return [];
  }
}
