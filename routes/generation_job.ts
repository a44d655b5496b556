/** One generation under way, between its request and its answer. */

import type { Context } from "hono";
import type { Generation } from "../openapi/generation.ts";
import type { GenerateInput, GenerateProgress } from "../pipeline/protocol.ts";
import { type AppEnv, type AppOptions, requireModel, type ServedModel } from "./app_options.ts";
import { toGeneration } from "./generation_answer.ts";
import { decodeReferences, generationBody, toGenerateInput } from "./generation_input.ts";
import { errorFields } from "./logger.ts";
import { toProblemError } from "./problem_error.ts";
import { readBody } from "./request_body.ts";

/** What was asked, and of which model. */
export interface GenerationJob {
  readonly id: string;
  readonly model: ServedModel;
  readonly input: GenerateInput;
}

/**
 * Reads a request.
 *
 * @param c the request
 * @param options of the app
 * @returns the job, checked as far as it can be without decoding a photo
 * @throws {ProblemError} when it is refused
 */
export async function readJob(c: Context<AppEnv>, options: AppOptions): Promise<GenerationJob> {
  const model = requireModel(options);
  const request = await readBody(c, generationBody);
  const photos = request.kind === "json"
    ? decodeReferences(request.body.reference_images)
    : request.body.reference_images;
  const input = toGenerateInput(photos, request.body, model.manifest, options.randomSeed);
  return { id: `gen_${crypto.randomUUID()}`, model, input };
}

/** How a job is watched and ended. */
export interface JobControl {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: GenerateProgress) => void;
}

/**
 * Runs a job and logs how it ended, with nothing of what it was about.
 *
 * @param job what to run
 * @param requestId for the log
 * @param options of the app
 * @param control cancellation and progress
 * @returns the answer
 * @throws whatever the pipeline threw
 */
export async function runJob(
  { id, model, input }: GenerationJob,
  requestId: string,
  options: AppOptions,
  control: JobControl,
): Promise<Generation> {
  const about = { request_id: requestId, id, images: input.numImages, steps: input.numInferenceSteps };
  try {
    const output = await model.inference.generate(input, control);
    const generation = toGeneration(id, model.manifest.name, input, output);
    options.log("info", "generation", { ...about, status: "succeeded", seconds: generation.timings.total });
    return generation;
  } catch (error) {
    const { code } = toProblemError(error);
    const status = code === "canceled" ? "canceled" : "failed";
    const cause = code === "internal_error" ? errorFields(error) : {};
    options.log(code === "internal_error" ? "error" : "info", "generation", {
      ...about,
      status,
      code,
      ...cause,
    });
    throw error;
  }
}
