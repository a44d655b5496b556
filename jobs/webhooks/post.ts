/** Posts to addresses that strangers chose, without letting them reach into the operator's own network. */

import { lookup as resolve, type LookupAddress, type LookupOptions } from "node:dns";
import http from "node:http";
import https from "node:https";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** An address that is not of the public internet. */
export class AddressRefusedError extends Error {
  override readonly name = "AddressRefusedError";
}

/** How a request is made. */
export interface PostOptions {
  /** also to private, loopback and link-local addresses, and without TLS */
  readonly allowPrivate: boolean;
  /** milliseconds for the whole request */
  readonly timeout: number;
}

/** What came back; the body is not looked at. */
export interface PostResult {
  /** HTTP status; a redirect is an answer like any other and is not followed */
  readonly status: number;
}

/** Whether an address is one of the public internet's, by IANA's registries. */
function isPublic(address: string): boolean {
  // `process` turns ::ffff:10.0.0.1 into 10.0.0.1; 6to4, Teredo and NAT64 are ranges of their own and no unicast
  return ipaddr.isValid(address) && ipaddr.process(address).range() === "unicast";
}

/**
 * Tells why an address must not be posted to, as far as its text alone can tell.
 *
 * @param url what the customer gave
 * @param allowPrivate see {@linkcode PostOptions}
 * @returns one sentence, or undefined when nothing speaks against it yet: what a name resolves to is checked when it is used
 */
export function refusalOf(url: string, allowPrivate: boolean): string | undefined {
  if (!URL.canParse(url)) return "must be an absolute address";
  const { protocol, hostname, username, password } = new URL(url);
  if (protocol !== "https:" && !(allowPrivate && protocol === "http:")) return "must begin with https://";
  if (username !== "" || password !== "") return "must not hold a user name or password";
  const host = hostname.replace(/^\[|\]$/g, "");
  if (!allowPrivate && isIP(host) !== 0 && !isPublic(host)) return "must not be a private address";
  return undefined;
}

type LookupDone = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** Resolves a name for the very connection that is made, so that a second answer cannot differ from the checked one. */
function guardedLookup(hostname: string, options: LookupOptions, done: LookupDone): void {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return done(error, []);
    const [first] = addresses;
    if (first === undefined || !addresses.every(({ address }) => isPublic(address))) {
      return done(new AddressRefusedError("the name stands for a private address"), []);
    }
    if (options.all) done(null, addresses);
    else done(null, first.address, first.family);
  });
}

/**
 * Posts a body.
 *
 * @param url where to
 * @param headers of the request
 * @param body text
 * @param options what is allowed
 * @returns the status of the answer
 * @throws {AddressRefusedError} when the address, or any that its name stands for, is not public
 * @throws when there was no answer in time
 */
export function post(
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  { allowPrivate, timeout }: PostOptions,
): Promise<PostResult> {
  const refusal = refusalOf(url, allowPrivate);
  if (refusal !== undefined) return Promise.reject(new AddressRefusedError(`the address ${refusal}`));
  const { promise, resolve, reject } = Promise.withResolvers<PostResult>();
  const request = (new URL(url).protocol === "https:" ? https : http).request(url, {
    method: "POST",
    headers: { ...headers, "Content-Length": String(new TextEncoder().encode(body).length) },
    // no connection is kept: a later one is looked up and checked again
    agent: false,
    ...(allowPrivate ? {} : { lookup: guardedLookup }),
  }, (response) => {
    resolve({ status: response.statusCode ?? 0 });
    response.destroy();
  });
  const timer = setTimeout(() => request.destroy(new Error("no answer in time")), timeout);
  request.on("error", reject);
  request.on("close", () => {
    clearTimeout(timer);
    reject(new Error("the connection was closed without an answer"));
  });
  request.end(body);
  return promise;
}
