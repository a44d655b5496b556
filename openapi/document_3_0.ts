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
  return `${JSON.stringify(converter.convert(), null, 2)}\n`;
}
