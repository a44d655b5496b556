/** From an HTTP request to a generation that is asked for. */

import type { Context } from "hono";
import type { GenerationRequest } from "../jobs/generation.ts";
import type { Manifest } from "../models/manifest.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import { type AppEnv, type AppOptions, requireRunning } from "./app_options.ts";
import { decodeReferences, generationBody, toGenerateInput } from "./generation_input.ts";
import { readBody } from "./request_body.ts";

/**
 * Reads a request.
 *
 * @param c the request
 * @param options of the app
 * @returns what is asked, checked as far as it can be without decoding a photo
 * @throws {ProblemError} when it is refused
 */
export async function readGenerationRequest(
  c: Context<AppEnv>,
  options: AppOptions,
): Promise<GenerationRequest> {
  const { manifest } = requireRunning(options);
  const request = await readBody(c, generationBody);
  const photos = request.kind === "json"
    ? decodeReferences(request.body.reference_images)
    : request.body.reference_images;
  const input = toGenerateInput(photos, request.body, manifest, options.randomSeed);
  return toGenerationRequest(c, manifest, input, request.body.preview_interval ?? 0);
}

/**
 * Says for whom a generation is.
 *
 * @param c the request; passed `authenticate`
 * @param manifest of the model that is served
 * @param input what is asked of the pipeline
 * @param previewInterval denoising steps from one preview of a picture to the next; 0 for none
 */
export function toGenerationRequest(
  c: Context<AppEnv>,
  manifest: Manifest,
  input: GenerateInput,
  previewInterval: number,
): GenerationRequest {
  const account = accountOf(c);
  const idempotency = c.get("idempotency");
  return {
    account,
    key: c.get("client") ?? account,
    endUser: c.get("endUser") ?? null,
    ceiling: c.get("ceiling") ?? {},
    requestId: c.get("requestId"),
    model: manifest.name,
    pixels: manifest.image_size ** 2,
    input,
    previewInterval,
    ...(idempotency === undefined ? {} : { idempotency }),
  };
}

/**
 * Whose request it is: the token's subject.
 *
 * @param c a request that passed `authenticate`
 */
export function accountOf(c: Context<AppEnv>): string {
  const subject = c.get("subject");
  if (subject === undefined) throw new Error("an account is asked for where no token was");
  return subject;
}
