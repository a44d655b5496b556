/** Builds the `responses` of an operation: its success and every problem it can answer with. */

import type { z } from "@hono/zod-openapi";
import { asOpenAiProblem, openAiStatus } from "./openai_error.ts";
import { exampleProblem, ProblemSchema } from "./problem.ts";
import { problemCatalogue, type ProblemCode } from "./problems.ts";

/** Problems of a request that fails to prove who sends it, or comes too often. */
export const tokenProblems = [
  "rate_limit_exceeded",
  "token_missing",
  "token_malformed",
  "token_expired",
  "token_not_yet_valid",
  "token_issuer_wrong",
  "token_audience_wrong",
  "token_signature_invalid",
  "token_algorithm_not_allowed",
  "token_key_unknown",
  "token_claim_invalid",
  "token_key_revoked",
  "token_lifetime_too_long",
  "token_used",
  "scope_missing",
  "keys_unavailable",
] as const satisfies readonly ProblemCode[];

/** Problems of a request whose body does not fit the contract. */
export const bodyProblems = [
  "json_malformed",
  "multipart_malformed",
  "body_too_large",
  "media_type_unsupported",
  "invalid_request",
  "image_missing",
  "unknown_field",
  "wrong_type",
  "out_of_range",
  "base64_invalid",
] as const satisfies readonly ProblemCode[];

/** Those of them that a body of JSON without photos can have. */
export const jsonProblems = [
  "json_malformed",
  "body_too_large",
  "media_type_unsupported",
  "invalid_request",
  "unknown_field",
  "wrong_type",
  "out_of_range",
  "field_missing",
] as const satisfies readonly ProblemCode[];

/** Problems of a photo, found when it is decoded. */
export const photoProblems = [
  "image_not_decodable",
  "image_truncated",
  "image_too_large",
  "image_format_unsupported",
  "image_format_heic",
] as const satisfies readonly ProblemCode[];

/** Problems of the service itself. */
export const serviceProblems = [
  "not_ready",
  "shutting_down",
  "worker_failed",
  "store_unavailable",
  "internal_error",
] as const satisfies readonly ProblemCode[];

/** Problems of an operation that needs the database alone. */
export const storeProblems = [
  "store_unavailable",
  "internal_error",
] as const satisfies readonly ProblemCode[];

/** Problems of a generation's fields, its photos among them, beyond those of any body. */
export const generationFieldProblems = [
  "field_missing",
  "invalid_value",
  "model_unknown",
  "class_noun_unknown",
  "cache_interval_unsupported",
  "scheduler_unknown",
  "prompt_empty",
  "prompt_too_long",
  "too_many_reference_images",
  ...photoProblems,
  "face_not_found",
  "multiple_faces",
  "face_too_small",
] as const satisfies readonly ProblemCode[];

/** Problems of a generation that is waited for, beyond those of its fields. */
export const generationProblems = [
  "queue_full",
  "too_many_generations",
  "token_images_exceeded",
  "token_price_exceeded",
  "insufficient_credits",
  "idempotency_key_invalid",
  "idempotency_key_reused",
  "canceled",
  "image_store_unavailable",
  "deadline_exceeded",
] as const satisfies readonly ProblemCode[];

/** One media type an operation answers with. */
export interface SuccessContent {
  readonly schema: z.ZodType;
  readonly examples?: Record<string, { summary?: string; value: unknown }>;
}

const requestIdHeader = {
  "X-Request-Id": {
    description: "names the request in the service's log; a well-formed one you send is kept",
    schema: { type: "string" as const },
  },
};

const statusHeaders: Partial<
  Record<number, Record<string, { description: string; schema: { type: "string" } }>>
> = {
  401: { "WWW-Authenticate": { description: "the reason, RFC 6750 section 3", schema: { type: "string" } } },
  403: {
    "WWW-Authenticate": { description: "the scope that is missing, RFC 6750", schema: { type: "string" } },
  },
  429: { "Retry-After": { description: "seconds to wait", schema: { type: "string" } } },
  503: { "Retry-After": { description: "seconds to wait", schema: { type: "string" } } },
};

/** A header of an answer. */
interface AnswerHeader {
  readonly description: string;
  readonly schema: { readonly type: "string" };
}

/** A success of an operation. */
export interface Success {
  readonly description: string;
  /** by media type; none for an answer without a body */
  readonly content?: Readonly<Record<string, SuccessContent>>;
  readonly headers?: Readonly<Record<string, AnswerHeader>>;
}

/**
 * Lists what an operation can answer.
 *
 * @param description of the success
 * @param content of the success, by media type
 * @param codes every problem the operation can answer with
 * @param others successes beside 200, by status; one under 200 takes the place of the first two
 * @param forOpenAi whether OpenAI's clients are answered: problems have the statuses and the `error` member that they know
 * @returns the successes, and for each other status its problems, an example each
 */
export function answers(
  description: string,
  content: Readonly<Record<string, SuccessContent>>,
  codes: readonly ProblemCode[],
  others: Readonly<Record<number, Success>> = {},
  forOpenAi: boolean = false,
) {
  const byStatus = Map.groupBy(codes, (code): number => {
    const { status } = problemCatalogue[code];
    return forOpenAi ? openAiStatus(status) : status;
  });
  const problems = [...byStatus].map(([status, members]) => [
    status,
    {
      description: members.map((code) => `\`${code}\`: ${problemCatalogue[code].title}.`).join("\n\n"),
      headers: { ...requestIdHeader, ...statusHeaders[status] },
      content: {
        "application/problem+json": {
          schema: ProblemSchema,
          // written once for all other operations, see `createDocument`
          examples: Object.fromEntries(
            members.map((code) => [
              code,
              forOpenAi
                ? { summary: problemCatalogue[code].title, value: asOpenAiProblem(exampleProblem(code)) }
                : { $ref: `#/components/examples/${code}` },
            ]),
          ),
        },
      },
    },
  ]);
  return {
    ...writeSuccesses({ 200: { description, content }, ...others }),
    ...Object.fromEntries(problems),
  };
}

/**
 * Lists what an operation without a body can answer.
 *
 * @param description of the success, a 204
 * @param codes every problem the operation can answer with
 */
export function emptyAnswers(description: string, codes: readonly ProblemCode[]) {
  const { 200: _none, ...problems } = answers("", {}, codes);
  return { ...writeSuccesses({ 204: { description } }), ...problems };
}

function writeSuccesses(successes: Readonly<Record<number, Success>>) {
  return Object.fromEntries(
    Object.entries(successes).map(([status, { description, content, headers = {} }]) => [status, {
      description,
      headers: { ...requestIdHeader, ...headers },
      ...(content === undefined ? {} : { content }),
    }]),
  );
}
