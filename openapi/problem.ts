/** The body of every error answer: RFC 9457 `application/problem+json`. */

import { z } from "@hono/zod-openapi";
import { openEnum } from "./open_enum.ts";
import { problemCatalogue, type ProblemCode, problemCodes, problemType } from "./problems.ts";

/** One field at fault. */
export const FieldErrorSchema = z.strictObject({
  pointer: z.string().describe(
    "JSON pointer (RFC 6901) to the field; the same for the form field of a multipart body",
  ),
  code: openEnum(problemCodes, "what is wrong with it; codes may be added"),
  detail: z.string().describe("what the field must hold"),
}).openapi("FieldError");

/** One field at fault, see {@linkcode FieldErrorSchema}. */
export type FieldError = z.infer<typeof FieldErrorSchema>;

/** A problem: the members of RFC 9457 and our extensions. */
export const ProblemSchema = z.strictObject({
  type: z.string().describe("names the problem, for example `urn:idadapter:problem:face_not_found`"),
  code: openEnum(
    problemCodes,
    "the last part of `type`; stable, for programs. Codes may be added: take one you do not know by its `status`",
  ),
  title: z.string().describe("short, the same for every occurrence"),
  status: z.int().describe("the HTTP status, repeated; in a `failed` event the status it would have had"),
  detail: z.string().describe("what is wrong with this very request"),
  remedy: z.string().describe("what the caller can do about it"),
  request_id: z.string().describe("the `X-Request-Id` of the answer; name it when you report the problem"),
  errors: z.array(FieldErrorSchema).optional().describe("the fields at fault"),
  details: z.record(z.string(), z.union([z.number(), z.string()])).optional()
    .describe("figures a program may act on, for example `tokens` and `limit` of `prompt_too_long`"),
  error: z.strictObject({
    message: z.string(),
    type: z.string().describe("OpenAI's, for example `invalid_request_error`"),
    code: openEnum(problemCodes, "the problem's own"),
    param: z.string().nullable().describe("the first field at fault"),
  }).optional().describe("the same in OpenAI's words, under /v1/images and /v1/models alone"),
}).openapi("Problem");

/** A problem as it is sent, see {@linkcode ProblemSchema}. */
export type Problem = z.infer<typeof ProblemSchema>;

/** What one request adds to a catalogue entry. */
export interface ProblemOccurrence {
  readonly detail: string;
  readonly requestId: string;
  readonly errors?: readonly FieldError[];
  readonly details?: Readonly<Record<string, number | string>>;
}

/**
 * Makes the body of an error answer.
 *
 * @param code which problem
 * @param occurrence what is particular to this request; must not quote tokens, photos or prompts
 * @returns the problem, members in the order a person reads them
 *
 * @example
 * ```ts
 * createProblem("face_not_found", { detail: "Photo 1 shows no face.", requestId: "r1" }).status; // 422
 * ```
 */
export function createProblem(code: ProblemCode, occurrence: ProblemOccurrence): Problem {
  const { status, title, remedy } = problemCatalogue[code];
  const { detail, requestId, errors = [], details = {} } = occurrence;
  return {
    type: problemType(code),
    code,
    title,
    status,
    detail,
    remedy,
    request_id: requestId,
    ...(errors.length > 0 ? { errors: [...errors] } : {}),
    ...(Object.keys(details).length > 0 ? { details: { ...details } } : {}),
  };
}

/**
 * A problem as the contract shows it.
 *
 * @param code which
 * @returns one whose detail is its title
 *
 * @example
 * ```ts
 * exampleProblem("face_not_found").detail; // "No face was found."
 * ```
 */
export function exampleProblem(code: ProblemCode): Problem {
  const detail = `${problemCatalogue[code].title}.`;
  return createProblem(code, { detail, requestId: "7a1f2c9e-0c1b-4d52-8f0e-3b1f6a1f9d11" });
}
