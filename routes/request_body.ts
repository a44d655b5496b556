/** One body, two ways to write it: JSON with base64 photos, or multipart/form-data with files. */

import type { Context } from "hono";
import type { z } from "zod";
import type { AppEnv } from "./app_options.ts";
import { fieldProblem, schemaProblem } from "./field_errors.ts";
import { boundaryOf, delimiters } from "./multipart.ts";
import { ProblemError } from "./problem_error.ts";

/** The bytes of an encoded photo. */
export type PhotoBytes = Uint8Array<ArrayBuffer>;

/** How a form's fields are to be read; every field that is named nowhere is text. */
export interface FormFields {
  /** fields that may come several times */
  readonly lists?: readonly string[];
  readonly numbers?: readonly string[];
  /** fields that hold `true` or `false` */
  readonly booleans?: readonly string[];
  /** other names of fields, by the name they come under */
  readonly aliases?: ReadonlyMap<string, string>;
  /** true where an empty text means that the field was left out */
  readonly emptyIsAbsent?: boolean;
}

/** A number exactly as JSON writes it (RFC 8259, section 6): no blanks, no hexadecimal, no `+`. */
const jsonNumber = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** What {@linkcode readBody} reads, by media type. */
export interface BodySchemas<Json extends z.ZodType, Form extends z.ZodType> {
  readonly json: Json;
  readonly form: Form;
  readonly formFields: FormFields;
}

/**
 * Reads and checks a body.
 *
 * @param c the request
 * @param schemas what it must fit
 * @returns the checked body, and which kind it was
 * @throws {ProblemError} 400 when it does not parse, 415 for another media type, 422 when it does not fit
 */
export async function readBody<Json extends z.ZodType, Form extends z.ZodType>(
  c: Context<AppEnv>,
  schemas: BodySchemas<Json, Form>,
): Promise<{ kind: "json"; body: z.output<Json> } | { kind: "form"; body: z.output<Form> }> {
  const mediaType = (c.req.header("Content-Type") ?? "").split(";", 1)[0]?.trim().toLowerCase();
  switch (mediaType) {
    case "application/json":
      return { kind: "json", body: check(schemas.json, await readJson(c)) };
    case "multipart/form-data":
      return { kind: "form", body: check(schemas.form, await readForm(c, schemas.formFields)) };
    default:
      throw new ProblemError(
        "media_type_unsupported",
        "The Content-Type must be application/json or multipart/form-data.",
        { headers: { Accept: "application/json, multipart/form-data" } },
      );
  }
}

/**
 * Reads and checks a body that comes as a form alone.
 *
 * @param c the request
 * @param schema what it must fit
 * @param fields how its fields are read
 * @returns the checked body
 * @throws {ProblemError} 400 when it does not parse, 415 for another media type, 422 when it does not fit
 */
export async function readFormBody<Schema extends z.ZodType>(
  c: Context<AppEnv>,
  schema: Schema,
  fields: FormFields,
): Promise<z.output<Schema>> {
  const mediaType = (c.req.header("Content-Type") ?? "").split(";", 1)[0]?.trim().toLowerCase();
  if (mediaType !== "multipart/form-data") {
    throw new ProblemError("media_type_unsupported", "The Content-Type must be multipart/form-data.", {
      headers: { Accept: "multipart/form-data" },
    });
  }
  return check(schema, await readForm(c, fields));
}

/**
 * Reads and checks a body that comes as JSON alone.
 *
 * @param c the request
 * @param schema what it must fit
 * @returns the checked body
 * @throws {ProblemError} 400 when it does not parse, 415 for another media type, 422 when it does not fit
 */
export async function readJsonBody<Schema extends z.ZodType>(
  c: Context<AppEnv>,
  schema: Schema,
): Promise<z.output<Schema>> {
  const mediaType = (c.req.header("Content-Type") ?? "").split(";", 1)[0]?.trim().toLowerCase();
  if (mediaType !== "application/json") {
    throw new ProblemError("media_type_unsupported", "The Content-Type must be application/json.", {
      headers: { Accept: "application/json" },
    });
  }
  return check(schema, await readJson(c));
}

function check<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw schemaProblem(parsed.error, body);
  return parsed.data;
}

/** Parts of a form, and commas of a JSON text; base64 has none, and a prompt at most as many as characters. */
const most = { parts: 64, commas: 10_000 };

/** Whether there are more commas than any request needs: what they part would keep the process busy for seconds. */
function hasTooManyCommas(bytes: Uint8Array): boolean {
  let count = 0;
  for (let at = bytes.indexOf(0x2c); at !== -1; at = bytes.indexOf(0x2c, at + 1)) {
    if (++count > most.commas) return true;
  }
  return false;
}

async function readJson(c: Context<AppEnv>): Promise<unknown> {
  const bytes = await c.req.arrayBuffer();
  if (hasTooManyCommas(new Uint8Array(bytes))) {
    throw new ProblemError("body_too_large", `The body has more than ${most.commas} commas.`, {
      details: { limit: most.commas },
    });
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new ProblemError("json_malformed", "The body does not parse as JSON in UTF-8.");
  }
}

async function readForm(c: Context<AppEnv>, fields: FormFields): Promise<unknown> {
  const bytes = await c.req.arrayBuffer();
  const contentType = c.req.header("Content-Type") ?? "";
  const boundary = boundaryOf(contentType);
  if (boundary === undefined) {
    throw new ProblemError(
      "multipart_malformed",
      "The Content-Type names no boundary of 1 to 70 characters.",
    );
  }
  let parts = 0;
  for (const _ of delimiters(new Uint8Array(bytes), boundary)) {
    // the last one ends the form
    if (++parts > most.parts + 1) {
      throw new ProblemError("body_too_large", `The form has more than ${most.parts} parts.`, {
        details: { limit: most.parts },
      });
    }
  }
  let form: FormData;
  try {
    form = await new Response(bytes, { headers: { "Content-Type": contentType } }).formData();
  } catch {
    throw new ProblemError("multipart_malformed", "The body does not parse as multipart/form-data.");
  }
  const sent = Map.groupBy(
    [...form].filter(([, entry]) => fields.emptyIsAbsent !== true || entry !== ""),
    ([name]) => fields.aliases?.get(name) ?? name,
  );
  const entries = await Promise.all([...sent].map(async ([name, pairs]) => {
    const values = await Promise.all(pairs.map(([, entry]) => readEntry(entry, name, fields)));
    if (fields.lists?.includes(name)) return [name, values];
    if (values.length > 1) {
      throw fieldProblem([{
        pointer: `/${name.slice(0, 64)}`,
        code: "wrong_type",
        detail: "may be sent only once",
      }]);
    }
    return [name, values[0]];
  }));
  return Object.fromEntries(entries);
}

async function readEntry(entry: FormDataEntryValue, name: string, fields: FormFields): Promise<unknown> {
  if (typeof entry !== "string") return new Uint8Array(await entry.arrayBuffer());
  // what does not read as a number stays text, and the schema says what it should have been
  if (fields.numbers?.includes(name) && jsonNumber.test(entry)) return Number(entry);
  return fields.booleans?.includes(name) && /^(?:true|false)$/.test(entry) ? entry === "true" : entry;
}

/** RFC 2397, with the parameters and media type browsers write. */
const dataUrlStart = /^data:[^,;]{0,127}(?:;[^,;]{1,127}){0,4}?;base64,/i;

/**
 * Decodes a photo of a JSON body.
 *
 * @param text base64 (RFC 4648, section 4) or a base64 data URL; its media type is not looked at, the bytes tell
 * @param pointer JSON pointer of the field, for the problem
 * @returns the encoded photo
 * @throws {ProblemError} `base64_invalid`
 */
export function decodePhotoText(text: string, pointer: string): PhotoBytes {
  const refuse = (detail: string) => fieldProblem([{ pointer, code: "base64_invalid", detail }]);
  const prefix = dataUrlStart.exec(text.slice(0, 1024))?.[0];
  if (prefix === undefined && /^[a-z][a-z0-9+.-]*:/i.test(text.slice(0, 32))) {
    throw refuse("must be base64 or a base64 data URL; addresses are not fetched");
  }
  let bytes: PhotoBytes;
  try {
    bytes = Uint8Array.fromBase64(text.slice(prefix?.length ?? 0));
  } catch {
    throw refuse("must be base64 of RFC 4648, section 4, with `+`, `/` and padding");
  }
  if (bytes.length === 0) throw refuse("must not be empty");
  return bytes;
}
