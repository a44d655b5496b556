/** The examples of a backend that signs its app's tokens: what they print makes a portrait, and no more than it may. */

import { equal, match } from "node:assert/strict";
import { join } from "node:path";
import { exportJWK, exportPKCS8, generateKeyPair } from "jose";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";
import { startService } from "../../demo/service_process.ts";
import { photo, run } from "./cut_connections.ts";
import { ignored, named } from "./toolchains.ts";

Deno.test("a backend's token", async (t) => {
  await using service = await startService(AbortSignal.timeout(180_000), { THREADS: "2", MAX_BATCH: "1" });
  const folder = await Deno.makeTempDir();
  const own = await signDevelopmentToken(service.jwt, { subject: "account", expiresIn: "10m" });
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const added = await fetch(`${service.address}/v1/account/keys`, {
    method: "POST",
    headers: { Authorization: `Bearer ${own}`, "Content-Type": "application/json" },
    body: JSON.stringify({ name: "backend", jwk: await exportJWK(publicKey) }),
  });
  equal(added.status, 200);
  const [pem, key] = [join(folder, "account_key.pem"), join(folder, "key.json")];
  await Deno.writeTextFile(pem, await exportPKCS8(privateKey));
  await Deno.writeTextFile(key, await added.text());

  /** Asks for so many portraits; the status, and the problem's code if it is one. */
  async function ask(token: string, images: number): Promise<readonly [number, string | undefined]> {
    const body = new FormData();
    body.set("reference_images", new Blob([await Deno.readFile(photo)]));
    const fields = { prompt: "a smile", class_noun: "woman", num_images: String(images) };
    for (const [name, value] of Object.entries(fields)) body.set(name, value);
    const headers = { Authorization: `Bearer ${token}` };
    const response = await fetch(`${service.address}/v1/generations`, { method: "POST", headers, body });
    return [response.status, (await response.json()).code];
  }

  const programs = [
    {
      language: "TypeScript",
      ignore: false,
      command: Deno.execPath(),
      args: ["run", "--allow-read", "--no-check", "sdk/examples/typescript/mint_token.ts"],
    },
    {
      language: "Python",
      ignore: ignored.python,
      command: "sdk/.venv/bin/python",
      args: ["sdk/examples/python/mint_token.py"],
    },
  ];
  for (const { language, ignore, command, args } of programs) {
    await t.step({
      name: named(`${language} signs it`, ignore),
      ignore,
      fn: async () => {
        const printed = await run({ command, args: [...args, pem, key, language] });
        match(printed, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
        const [made] = await ask(printed.trim(), 1);
        equal(made, 200);
        const [status, code] = await ask(printed.trim(), 3);
        equal(status, 403);
        equal(code, "token_images_exceeded");
        const usage = await fetch(`${service.address}/v1/usage?end_user=${language}`, {
          headers: { Authorization: `Bearer ${own}` },
        });
        equal((await usage.json()).total.images, 1, "told by whose user it was");
      },
    });
  }
  await Deno.remove(folder, { recursive: true });
});
