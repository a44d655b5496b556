import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { z } from "zod";
import { createDocument, formatDocument } from "../../openapi/document.ts";
import { formatDocument30 } from "../../openapi/document_3_0.ts";
import { ended, endedInVain } from "../../openapi/account_examples.ts";
import { GenerationEndedSchema } from "../../openapi/webhook.ts";
import { operations } from "../../openapi/operations.ts";
import { scopes, securityScheme } from "../../openapi/scopes.ts";
import { createProblem, ProblemSchema } from "../../openapi/problem.ts";
import { problemCatalogue, problemCodes, problemType } from "../../openapi/problems.ts";

type Json = Record<string, unknown>;

/** Every object inside a JSON value. */
function* objectsIn(value: unknown): Generator<Json> {
  if (typeof value !== "object" || value === null) return;
  yield value as Json;
  for (const inner of Object.values(value)) yield* objectsIn(inner);
}

function resolve(document: unknown, pointer: string): unknown {
  return pointer.slice(2).split("/").reduce((value, part) => (value as Json | undefined)?.[part], document);
}

Deno.test("openapi.json is what the code says; after a change run `deno task openapi`", async () => {
  equal(await Deno.readTextFile(new URL("../../openapi.json", import.meta.url)), formatDocument());
});

Deno.test("it is an OpenAPI 3.1 document whose references all lead somewhere", () => {
  const document = JSON.parse(formatDocument());
  match(document.openapi, /^3\.1\./);
  for (const { $ref } of objectsIn(document)) {
    if (typeof $ref === "string") ok(resolve(document, $ref) !== undefined, `${$ref} leads nowhere`);
  }
  const ids = operations.map(({ operationId }) => operationId);
  equal(new Set(ids).size, ids.length);
  const paths = new Set<string>(operations.map(({ path }) => path));
  deepEqual(Object.keys(document.paths).sort(), [...paths].sort());
});

Deno.test("the variant for older generators is OpenAPI 3.0.3, of the same operations, with no word of 3.1 left", () => {
  const text = formatDocument30();
  const [document, original] = [JSON.parse(text), JSON.parse(formatDocument())];
  equal(document.openapi, "3.0.3");
  const idsOf = ({ paths }: { paths: Record<string, Record<string, Json>> }) =>
    Object.values(paths).flatMap((item) => Object.values(item).map(({ operationId }) => operationId));
  deepEqual(idsOf(document), idsOf(original));
  for (const object of objectsIn(document)) {
    const { $ref } = object;
    if (typeof $ref === "string") ok(resolve(document, $ref) !== undefined, `${$ref} leads nowhere`);
    for (const word of ["const", "prefixItems", "contentEncoding", "propertyNames", "$defs"]) {
      ok(!Object.hasOwn(object, word), `${word} is not of 3.0`);
    }
    ok(!Array.isArray(object.type) && object.type !== "null", "3.0 has `nullable` for null");
    ok(typeof object.exclusiveMinimum !== "number");
  }
});

Deno.test("an operation's name is a method's name: a verb and what it does it to", () => {
  for (const { operationId } of operations) match(operationId, /^[a-z]+(?:[A-Z][a-z]+)+$/);
});

/** What an operation shows as an example, beside the schema it should fit. */
interface Example {
  readonly name: string;
  readonly schema: z.ZodType;
  readonly value: unknown;
}

function* examplesOf(operation: typeof operations[number]): Generator<Example> {
  const bodies = "request" in operation && "body" in operation.request
    ? [operation.request.body.content]
    : [];
  const answers = Object.values(operation.responses).map((answer) =>
    (answer as { content?: object }).content ?? {}
  );
  for (const content of [...bodies, ...answers]) {
    for (const [type, media] of Object.entries(content)) {
      for (const [name, example] of Object.entries(media.examples ?? {})) {
        const { value } = example as { value?: unknown };
        if (value !== undefined) {
          yield { name: `${operation.operationId} ${type} ${name}`, schema: media.schema, value };
        }
      }
    }
  }
}

Deno.test("every example fits its schema", () => {
  const examples = operations.flatMap((operation) => [...examplesOf(operation)]);
  ok(examples.length >= 9);
  for (const { name, schema, value } of examples) {
    const parsed = schema.safeParse(value);
    ok(parsed.success, `${name}: ${parsed.error?.message}`);
  }
  for (const message of [ended, endedInVain]) GenerationEndedSchema.parse(message);
});

Deno.test("every problem has an example that fits, and a name that never changes with its words", () => {
  const document = createDocument();
  for (const code of problemCodes) {
    const example = document.components?.examples?.[code] as { value: unknown };
    const problem = ProblemSchema.parse(example.value);
    equal(problem.code, code);
    equal(problem.type, `urn:idadapter:problem:${code}`);
    equal(problem.type, problemType(code));
    equal(problem.status, problemCatalogue[code].status);
    match(code, /^[a-z0-9_]+$/);
    match(problem.remedy, /\.$/);
  }
  const titles = problemCodes.map((code) => problemCatalogue[code].title);
  equal(new Set(titles).size, titles.length, "titles tell problems apart");
  // WWW-Authenticate carries titles as quoted strings
  for (const title of titles) match(title, /^[\x20-\x7e]+$/);
  for (const title of titles) ok(!/["\\]/.test(title));
});

Deno.test("every problem of the catalogue is one that some operation, or any unknown address, answers with", () => {
  const text = formatDocument();
  const anywhere = ["not_found", "method_not_allowed"];
  for (const code of problemCodes) {
    if (!anywhere.includes(code)) {
      ok(text.includes(`#/components/examples/${code}`), `${code} is used nowhere`);
    }
  }
});

Deno.test("an operation that needs a token says which scope, and what happens without it", () => {
  const used = new Set<string>();
  for (const { operationId, security, responses } of operations) {
    const needed = (security as readonly Record<string, string[]>[]).flatMap((entry) =>
      entry[securityScheme] ?? []
    );
    for (const scope of needed) used.add(scope);
    equal(needed.length > 0, 401 in responses && 403 in responses, operationId);
  }
  deepEqual([...used].sort(), Object.keys(scopes).sort());
});

Deno.test("no schema that has a name may be null, for every use of the name would be", () => {
  const schemas = Object.entries(JSON.parse(formatDocument()).components.schemas) as [string, Json][];
  deepEqual(schemas.filter(([, { type }]) => Array.isArray(type)).map(([name]) => name), []);
});

Deno.test("whole numbers that outgrow 32 bits say so: Java, Kotlin and C# would not read them", () => {
  const { schemas } = JSON.parse(formatDocument()).components;
  const wide: readonly (readonly [string, string])[] = [
    ["GenerationRequest", "seed"],
    ["GenerationImage", "seed"],
    ["Account", "available"],
    ["Price", "price"],
    ["UsageTotal", "credits"],
    ["CreditRequest", "amount"],
  ];
  for (const [schema, property] of wide) {
    equal(schemas[schema].properties[property].format, "int64", `${schema}.${property}`);
  }
  for (const { type, maximum, format } of objectsIn(schemas)) {
    if (String(type).includes("integer") && Number(maximum ?? 0) > 2 ** 31 - 1) equal(format, "int64");
  }
});

Deno.test("what may be added to is no enum, for a generated client would not read an answer with a newer word", () => {
  const { schemas } = JSON.parse(formatDocument()).components;
  const problem = schemas.Problem.properties;
  const codes = [
    problem.code,
    problem.error.properties.code,
    schemas.FieldError.properties.code,
    schemas.GenerationEnded.properties.data.properties.error.properties.code,
  ];
  for (const code of codes) deepEqual(code["x-extensible-enum"], problemCodes);
  const { stage } = schemas.GenerationProgress.properties;
  for (const schema of [...codes, stage, schemas.FaceProblem.properties.code]) {
    equal(schema.type, "string");
    ok(!("enum" in schema));
    ok(schema["x-extensible-enum"].length > 1, "the words of today are told");
  }
});

Deno.test("a problem has no empty members", () => {
  const problem = createProblem("face_not_found", { detail: "d", requestId: "r", errors: [], details: {} });
  deepEqual(Object.keys(problem), ["type", "code", "title", "status", "detail", "remedy", "request_id"]);
});
