import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { TextLineStream } from "./text_line_stream.ts";
import type { GenerateInput } from "../../pipeline/protocol.ts";
import type { BenchOptions } from "./portrait_request.ts";

/** What diffusers took, and what it made. */
export interface PeerPicture {
  readonly seconds: number;
  /** RGB bytes, row by row */
  readonly pixels: Uint8Array;
}

/** Number types of PyTorch the peer computes in. */
export type PeerDtype = "float32" | "bfloat16";

/** Where training's Python package lies. */
export const trainingFolder: string = fileURLToPath(new URL("../../training", import.meta.url));

/**
 * diffusers in a process of its own, on the same weights.
 *
 * @example
 * ```ts
 * await using peer = new DiffusersPeer({ python: "python3", bundle, photo, threads: 2 });
 * const { seconds } = await peer.generate(request, "bfloat16");
 * ```
 */
export class DiffusersPeer implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #requests: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #answers: ReadableStreamDefaultReader<string>;

  /** @param options of the bench */
  constructor({ python, bundle, photo, threads }: Omit<BenchOptions<string>, "numbers">) {
    const script = fileURLToPath(new URL("diffusers_peer.py", import.meta.url));
    this.#process = new Deno.Command(python, {
      args: [script, "--bundle", bundle, "--photo", photo, "--threads", String(threads)],
      env: { PYTHONPATH: trainingFolder, OMP_NUM_THREADS: String(threads) },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#requests = this.#process.stdin.getWriter();
    this.#answers = this.#process.stdout
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream())
      .getReader();
  }

  /**
   * Makes one portrait.
   *
   * @param input the request; its photo is the one the peer was started with
   * @param dtype what UNet and decoder compute in
   * @throws {Error} when the peer died
   */
  async generate(input: GenerateInput, dtype: PeerDtype): Promise<PeerPicture> {
    const request = {
      dtype,
      prompt: input.prompt,
      class_noun: input.classNoun,
      negative_prompt: input.negativePrompt,
      num_inference_steps: input.numInferenceSteps,
      guidance_scale: input.guidanceScale,
      identity_guidance_scale: input.identityGuidanceScale,
      early_guidance_scale: input.earlyGuidance?.scale,
      early_identity_guidance_scale: input.earlyGuidance?.identityScale,
      early_guidance_until: input.earlyGuidance?.untilTimestep,
      guidance_rescale: input.guidanceRescale,
      cache_interval: input.cacheInterval,
      identity_strength: input.identityStrength,
      pose_variation: input.poseVariation,
      scheduler: input.scheduler,
      seed: input.seed,
    };
    await this.#requests.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    const { value, done } = await this.#answers.read();
    if (done) throw new Error("diffusers' process ended: does --python have training's requirements?");
    const answer: { seconds: number; pixels: string } = JSON.parse(value);
    return { seconds: answer.seconds, pixels: Buffer.from(answer.pixels, "base64") };
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#requests.close().catch(() => undefined);
    await this.#answers.cancel().catch(() => undefined);
    await this.#process.status;
  }
}
