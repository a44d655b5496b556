/** The contract for generators that know no OpenAPI 3.1. */

import { Converter } from "@apiture/openapi-down-convert";
import { createDocument } from "./document.ts";

/**
 * Converts the document to OpenAPI 3.0.3.
 *
 * @returns JSON with two spaces and a newline at its end
 */
export function formatDocument30(): string {
  const converter = new Converter(structuredClone(createDocument()), { allOfTransform: true });
  return `${JSON.stringify(converter.convert(), nullableReference, 2)}\n`;
}

/** A reference or null, which the converter leaves as 3.1 writes it: 3.0 has no type "null". */
function nullableReference(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("anyOf" in value)) return value;
  const { anyOf, ...rest } = value as { anyOf: Record<string, unknown>[] };
  const others = anyOf.filter(({ type }) => type !== "null");
  if (others.length !== 1 || others.length === anyOf.length) return value;
  return { ...rest, nullable: true, allOf: others };
}
