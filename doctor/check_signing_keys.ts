/** The keys that tokens are verified with. */

import { z } from "zod";
import { type Config, ConfigError } from "../config.ts";
import { createKeySource } from "../routes/tokens/key_source.ts";
import { judgeClock } from "./check_database.ts";
import { exists } from "./exists.ts";
import { failed, type Finding, fine, messageOf, warning } from "./finding.ts";

const check = "signing keys";
const loopback = ["127.0.0.1", "localhost", "::1"];

const keySetSchema = z.object({ keys: z.array(z.object({ kty: z.enum(["EC", "RSA", "OKP"]) })).min(1) });

async function checkAddress(url: string): Promise<Finding[]> {
  const remedy = "Check JWT_JWKS_URL, and that this machine can reach it.";
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000), redirect: "manual" });
    const received = Date.now();
    const text = await response.text();
    if (response.status !== 200) return [failed(check, `${url} answers ${response.status}`, remedy)];
    const { keys } = keySetSchema.parse(JSON.parse(text));
    const date = Date.parse(response.headers.get("Date") ?? "");
    const clock = Number.isNaN(date)
      ? []
      : [judgeClock("the identity provider's", Math.abs(date - received) / 1000)];
    return [fine(check, `${keys.length} public keys at ${url}`), ...clock];
  } catch (error) {
    const detail = error instanceof z.ZodError || error instanceof SyntaxError
      ? `${url} holds no set of public keys (RFC 7517)`
      : `${url}: ${messageOf(error)}`;
    return [failed(check, detail, remedy)];
  }
}

async function checkDevelopmentKey({ jwt, host }: Config, path: string): Promise<Finding> {
  const remedy = "Set JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE to trust an identity provider instead.";
  if (await exists(path)) await createKeySource(jwt.keys);
  const detail = "this machine's development key: whoever can read STATE_DIR can sign tokens";
  return loopback.includes(host)
    ? fine(check, detail)
    : warning(check, `${detail}, and HOST is ${host}`, remedy);
}

/**
 * Checks that keys are there and are public; makes none.
 *
 * @param config of the service
 * @returns a finding, and one for the clock where an identity provider's answer tells the time
 */
export async function checkSigningKeys(config: Config): Promise<Finding[]> {
  const { keys } = config.jwt;
  try {
    switch (keys.kind) {
      case "jwks_url":
        return await checkAddress(keys.url);
      case "jwks_file":
        await createKeySource(keys);
        return [fine(check, `public keys in ${keys.path}`)];
      case "development":
        return [await checkDevelopmentKey(config, keys.path)];
    }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [failed(check, error.problems.join(" "), "See JWT_JWKS_FILE and STATE_DIR in docs/api.md.")];
  }
}
