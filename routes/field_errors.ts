/** From zod's findings to the API's own words. */

import type { z } from "zod";
import type { FieldError } from "../openapi/problem.ts";
import type { ProblemCode } from "../openapi/problems.ts";
import { ProblemError } from "./problem_error.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Fields whose faults have names of their own; `PipelineErrorCode`s where the pipeline would find the same. */
const fieldCodes: Readonly<
  Record<string, { missing?: ProblemCode; small?: ProblemCode; big?: ProblemCode }>
> = {
  reference_images: { missing: "image_missing", small: "image_missing", big: "too_many_reference_images" },
  image: { missing: "image_missing", small: "image_missing", big: "too_many_reference_images" },
  prompt: { small: "prompt_empty", big: "prompt_too_long" },
  negative_prompt: { big: "prompt_too_long" },
  class_noun: { small: "class_noun_unknown", big: "class_noun_unknown" },
  model: { small: "model_unknown", big: "model_unknown" },
};

const typeNames: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "a string",
  array: "a list",
  object: "an object",
  boolean: "true or false",
};

/** Formats that a pattern would describe badly. */
const formats: Readonly<Record<string, string>> = { date: "must be a date, as 2026-01-31 is one" };

/** More than these tell a person nothing new. */
const mostErrors = 20;

function toPointer(path: Path): string {
  return path.map((part) => `/${String(part).slice(0, 64).replaceAll("~", "~0").replaceAll("/", "~1")}`).join(
    "",
  );
}

function valueAt(body: unknown, path: Path): unknown {
  let value = body;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function boundary(issue: Extract<Issue, { code: "too_small" | "too_big" }>): string {
  const [side, bound] = issue.code === "too_small" ? ["at least", issue.minimum] : ["at most", issue.maximum];
  switch (issue.origin) {
    case "string":
      return `must have ${side} ${bound} characters`;
    case "array":
      return `must hold ${side} ${bound} entries`;
    default:
      return `must be ${side} ${bound}`;
  }
}

/** @param field the top-level field the issue lies in, @param value what was sent for it */
function describe(issue: Issue, field: string, value: unknown): { code: ProblemCode; detail: string } {
  const own = fieldCodes[field] ?? {};
  switch (issue.code) {
    case "too_small":
      return { code: own.small ?? "out_of_range", detail: boundary(issue) };
    case "too_big":
      return { code: own.big ?? "out_of_range", detail: boundary(issue) };
    case "invalid_format":
      return own.small === undefined
        ? { code: "invalid_value", detail: formats[issue.format] ?? `must match ${issue.pattern}` }
        : { code: own.small, detail: "must not be blank" };
    case "custom":
      return { code: issue.params?.["code"] as ProblemCode ?? "wrong_type", detail: issue.message };
    case "invalid_value": {
      const detail = `must be one of ${issue.values.join(", ")}`;
      if (typeof value !== typeof issue.values[0]) return { code: "wrong_type", detail };
      return { code: field === "scheduler" ? "scheduler_unknown" : "invalid_value", detail };
    }
    case "invalid_type":
      return { code: "wrong_type", detail: `must be ${typeNames[issue.expected] ?? issue.expected}` };
    default:
      return { code: "wrong_type", detail: issue.message };
  }
}

function toFieldErrors(issue: Issue, body: unknown): FieldError[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.slice(0, mostErrors + 1).map((key) => ({
      pointer: toPointer([...issue.path, key]),
      code: "unknown_field",
      detail: "is not a field of this request",
    }));
  }
  const field = String(issue.path[0] ?? "");
  const value = valueAt(body, issue.path);
  if (value === undefined && issue.path.length > 0) {
    const code = fieldCodes[field]?.missing ?? "field_missing";
    return [{ pointer: toPointer(issue.path), code, detail: "is required" }];
  }
  return [{ pointer: toPointer(issue.path), ...describe(issue, field, value) }];
}

/**
 * The problem of fields at fault: the errors' own code when they share one, `invalid_request` when they differ.
 *
 * @param errors at least one
 * @returns a problem that lists them
 */
export function fieldProblem(errors: readonly FieldError[]): ProblemError {
  const [first] = errors;
  const code = first !== undefined && errors.every((error) => error.code === first.code)
    ? first.code
    : "invalid_request";
  const detail = first === undefined || errors.length > 1
    ? `${errors.length > mostErrors ? `More than ${mostErrors}` : errors.length} fields are wrong.`
    : `${first.pointer === "" ? "The body" : first.pointer} ${first.detail}.`;
  return new ProblemError(code, detail, { errors: errors.slice(0, mostErrors) });
}

/**
 * The problem of a body that does not fit its schema.
 *
 * @param error what zod found
 * @param body what was sent, to tell a missing field from a wrong one
 * @returns a problem with a JSON pointer to each field at fault
 */
export function schemaProblem(error: z.ZodError, body: unknown): ProblemError {
  // one entry a field: of several bounds that it misses, the last is the narrowest
  const errors = new Map<string, FieldError>();
  for (const issue of error.issues) {
    if (errors.size > mostErrors) break;
    for (const fault of toFieldErrors(issue, body)) errors.set(fault.pointer, fault);
  }
  return fieldProblem([...errors.values()]);
}
