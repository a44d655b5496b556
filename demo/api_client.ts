/** The calls the demo makes, as any client of the API would make them. */

import { type FaceReportBody, FaceReportSchema } from "../openapi/face.ts";
import {
  type Generation,
  type GenerationImage,
  GenerationImageSchema,
  GenerationProgressSchema,
  GenerationSchema,
} from "../openapi/generation.ts";
import { ProblemSchema } from "../openapi/problem.ts";
import type { GenerateProgress } from "../pipeline/protocol.ts";
import { readEvents } from "./event_stream.ts";
import { DemoFailure, failureOf } from "./failure.ts";
import type { DemoOptions } from "./options.ts";

/** Where to call, and as whom. */
export interface ApiAccess {
  /** `http://127.0.0.1:<port>` */
  readonly address: string;
  /** a JWT the service accepts */
  readonly token: string;
  /** aborting it hangs up, which cancels a generation */
  readonly signal: AbortSignal;
}

/** What a generation takes of the demo's options. */
export interface GenerationOptions extends Pick<DemoOptions, "classNoun" | "seed" | "steps" | "count"> {
  readonly prompt: string;
}

async function post(
  { address, token, signal }: ApiAccess,
  path: string,
  form: FormData,
  accept: string,
): Promise<Response> {
  const response = await fetch(`${address}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, Accept: accept },
    body: form,
    signal,
  });
  if (!response.ok) throw failureOf(ProblemSchema.parse(await response.json()));
  return response;
}

/**
 * Asks whether a photo will do: `POST /v1/faces`.
 *
 * @param access where and as whom
 * @param photo encoded
 * @returns the service's report
 * @throws {DemoFailure} the photo cannot be decoded
 */
export async function checkPhoto(
  access: ApiAccess,
  photo: Uint8Array<ArrayBuffer>,
): Promise<FaceReportBody> {
  const form = new FormData();
  form.set("image", new Blob([photo]), "photo");
  const response = await post(access, "/v1/faces", form, "application/json");
  return FaceReportSchema.parse(await response.json());
}

function generationForm(photo: Uint8Array<ArrayBuffer>, options: GenerationOptions): FormData {
  const form = new FormData();
  form.set("reference_images", new Blob([photo]), "photo");
  form.set("prompt", options.prompt);
  form.set("class_noun", options.classNoun);
  form.set("num_images", String(options.count));
  form.set("seed", String(options.seed));
  if (options.steps !== undefined) form.set("num_inference_steps", String(options.steps));
  return form;
}

/**
 * Makes portraits and follows their making: `POST /v1/generations` with server-sent events.
 *
 * @param access where and as whom
 * @param photo encoded
 * @param options prompt, class noun, seed, steps, count
 * @param onProgress is told of every stage and step
 * @returns the finished generation, its images with their bytes
 * @throws {DemoFailure} the service refused or failed
 *
 * @example
 * ```ts
 * const { images } = await generatePortraits(access, photo, options, (progress) => view.show(progress));
 * ```
 */
export async function generatePortraits(
  access: ApiAccess,
  photo: Uint8Array<ArrayBuffer>,
  options: GenerationOptions,
  onProgress: (progress: GenerateProgress) => void,
): Promise<Generation> {
  const form = generationForm(photo, options);
  const response = await post(access, "/v1/generations", form, "text/event-stream");
  const images: GenerationImage[] = [];
  for await (const { event, data } of readEvents(response.body!)) {
    switch (event) {
      case "progress":
        onProgress(GenerationProgressSchema.parse(JSON.parse(data)));
        break;
      case "image":
        images.push(GenerationImageSchema.parse(JSON.parse(data)));
        break;
      case "succeeded":
        images.sort((one, other) => one.index - other.index);
        return { ...GenerationSchema.parse(JSON.parse(data)), images };
      case "failed":
        throw failureOf(ProblemSchema.parse(JSON.parse(data)));
    }
  }
  throw new DemoFailure(
    "stream_cut_off",
    "The stream ended before the portraits were finished.",
    "Run the demo again with the same seed.",
  );
}
