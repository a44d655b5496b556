/**
 * The backend's half: signs a short token for one of your users, with a key whose public half the service knows. The app
 * gets the token, and nobody but the backend the key.
 *
 * deno run -A sdk/examples/typescript/mint_token.ts ACCOUNT_KEY.pem KEY.json USER
 *
 * KEY.json is the service's answer to `POST /v1/account/keys`. Node.js runs it as well.
 */

import { importPKCS8, SignJWT } from "jose";
import { readFile } from "node:fs/promises";
import process from "node:process";

/** What the service answered when the key was added. */
interface AccountKey {
  readonly id: string;
  readonly algorithm: string;
  readonly issuer: string;
  readonly audience: string;
}

/**
 * Signs a token.
 *
 * @param pem the private key, PKCS #8
 * @param key what the service calls it
 * @param user which of your users it is for, 1 to 128 characters: it sees that user's portraits alone
 * @param claims narrows it further: `scope`, `max_images`, `max_price`; a `jti` makes it good for one request
 * @returns the token, good for five minutes
 */
async function mintToken(
  pem: string,
  key: AccountKey,
  user: string,
  claims: Readonly<Record<string, string | number>> = {},
): Promise<string> {
  return await new SignJWT({ ...claims, end_user: user })
    .setProtectedHeader({ alg: key.algorithm, kid: key.id })
    .setIssuer(key.issuer)
    .setAudience(key.audience)
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(await importPKCS8(pem, key.algorithm));
}

const [pemPath, keyPath, user] = process.argv.slice(2);
if (pemPath === undefined || keyPath === undefined || user === undefined) {
  console.error("mint_token.ts ACCOUNT_KEY.pem KEY.json USER");
  process.exit(2);
}
const key: AccountKey = JSON.parse(await readFile(keyPath, "utf8"));
console.log(await mintToken(await readFile(pemPath, "utf8"), key, user, { max_images: 2, max_price: 500 }));
