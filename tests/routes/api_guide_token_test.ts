/** docs/api.md's way to a token that a backend signs, carried out as it is written. */

import { equal, ok } from "node:assert/strict";
import { exportJWK, exportPKCS8, generateKeyPair } from "jose";
import { AccountKeySchema } from "../../openapi/account_key.ts";
import { expectProblem } from "./expect_problem.ts";
import { outputOf, scriptInference } from "./scripted_inference.ts";
import { testManifest } from "./test_manifest.ts";
import { asJson, startService } from "./test_service.ts";

const guide = await Deno.readTextFile(new URL("../../docs/api.md", import.meta.url));

Deno.test("the TypeScript that docs/api.md shows mints a token for one generation", async () => {
  const shown = /```ts\n(import \{ importPKCS8[\s\S]*?)```/.exec(guide)?.[1];
  ok(shown !== undefined);
  const file = await Deno.makeTempFile({ dir: new URL("..", import.meta.url).pathname, suffix: ".ts" });
  const inference = scriptInference({ generate: (input) => Promise.resolve(outputOf(input)) });
  await using service = await startService({ model: () => ({ manifest: testManifest, inference }) });
  try {
    await Deno.writeTextFile(file, shown);
    const { mintToken } = await import(file);
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    const added = await service.call(
      "/v1/account/keys",
      asJson({ jwk: await exportJWK(publicKey), name: "guide" }),
    );
    const key = AccountKeySchema.parse(await added.json());
    const headers = {
      "Content-Type": "application/json",
      Authorization: `Bearer ${await mintToken(await exportPKCS8(privateKey), key, "ann")}`,
    };
    const body = { reference_images: [Uint8Array.of(1).toBase64()], prompt: "a smile", class_noun: "woman" };
    const ask = () => service.call("/v1/generations", { ...asJson(body), headers });
    const made = await ask();
    equal(made.status, 200, await made.text());
    await expectProblem(await ask(), "token_used");
  } finally {
    await Deno.remove(file);
  }
});
