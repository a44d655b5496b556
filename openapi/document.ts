/** The contract as one OpenAPI 3.1 document. */

import { OpenAPIHono } from "@hono/zod-openapi";
import { GenerationPreviewSchema } from "./generation.ts";
import { ImageEditCompletedSchema, ImageEditPartialImageSchema } from "./image_edit.ts";
import { exampleProblem } from "./problem.ts";
import { problemCatalogue, problemCodes } from "./problems.ts";
import { operations } from "./operations.ts";
import { scopes, securityScheme } from "./scopes.ts";
import { GenerationEndedSchema } from "./webhook.ts";

const description = `One photo of a person and a sentence in, portraits of that person out: the method of
[IDAdapter](https://arxiv.org/abs/2403.13535), with no training per person.

Send a JWT as \`Authorization: Bearer …\`; its \`scope\` must name what the operation asks for:
${Object.entries(scopes).map(([scope, meaning]) => `\`${scope}\` (${meaning})`).join(", ")}.
Errors are RFC 9457 problems with a stable \`code\`. Unknown fields are refused.`;

/**
 * Builds the document from the operations and their schemas.
 *
 * @returns a new OpenAPI 3.1 document
 */
export function createDocument() {
  const contract = new OpenAPIHono();
  contract.openAPIRegistry.registerComponent("securitySchemes", securityScheme, {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description: "a JWT signed with an asymmetric algorithm; `deno task token` prints one for development",
  });
  // No answer refers to these: OpenAPI 3.1 cannot describe what is inside an event stream, and generators make methods of
  // `webhooks`, in place of those that have the same tag.
  contract.openAPIRegistry.register("GenerationPreview", GenerationPreviewSchema);
  contract.openAPIRegistry.register("ImageEditPartialImage", ImageEditPartialImageSchema);
  contract.openAPIRegistry.register("ImageEditCompleted", ImageEditCompletedSchema);
  contract.openAPIRegistry.register("GenerationEnded", GenerationEndedSchema);
  for (const code of problemCodes) {
    contract.openAPIRegistry.registerComponent("examples", code, {
      summary: problemCatalogue[code].title,
      value: exampleProblem(code),
    });
  }
  for (const operation of operations) contract.openAPIRegistry.registerPath(operation);
  return contract.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "IDAdapter",
      version: "1.0.0",
      description,
      // of the code; what a model's pictures may be used for is `license` of GET /v1/models
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    // wherever the document was fetched from
    servers: [{ url: "/" }],
    tags: [
      { name: "generations", description: "portraits" },
      { name: "openai", description: "for clients of OpenAI's image API" },
      { name: "faces", description: "is this photo good enough" },
      { name: "account", description: "balance, usage, prices" },
      { name: "webhooks", description: "be told when generations end" },
      { name: "models", description: "what can be asked for" },
      { name: "health", description: "probes of the platform" },
    ],
  });
}

/**
 * Prints the document as `openapi.json` holds it.
 *
 * @returns JSON with two spaces and a newline at its end
 */
export function formatDocument(): string {
  return `${JSON.stringify(createDocument(), null, 2)}\n`;
}
