/** The real app behind a real `Deno.serve` on a free port, with a key pair of its own. */

import { createLocalJWKSet, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { Registry } from "prom-client";
import { DurableGenerations } from "../../jobs/durable_generations.ts";
import type { JobSettings, JobsRoom } from "../../jobs/room.ts";
import { runGenerations } from "../../jobs/run.ts";
import { withdraw } from "../../jobs/settle.ts";
import { createApp } from "../../routes/app.ts";
import type { ServedModel } from "../../routes/app_options.ts";
import { logGenerations } from "../../routes/generation_log.ts";
import { createLogger, errorFields } from "../../routes/logger.ts";
import { allScopes } from "../../routes/tokens/development_token.ts";
import { openTestRoom, testSettings } from "../jobs/test_room.ts";
import { openTestStore } from "../store/each_store.ts";
import { accountTokenIssuer } from "../../routes/tokens/verify_account_token.ts";
import { createTokenVerifier, type TokenVerifier } from "../../routes/tokens/verify_token.ts";

/** What a test may choose. */
export interface TestServiceOptions {
  readonly model: () => ServedModel | undefined;
  readonly maxBodyBytes?: number;
  readonly randomSeed?: () => number;
  /** in place of figures that are out of reach */
  readonly settings?: Partial<JobSettings>;
  readonly requestsPerMinute?: number;
  /** false for a database that is not open yet */
  readonly jobs?: boolean;
  readonly corsOrigins?: readonly string[];
  readonly onProblem?: (code: string) => void;
  /** instead of the service's own key pair */
  readonly verifyToken?: TokenVerifier;
}

/** A running service; `await using` stops it. */
export interface TestService extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly address: string;
  readonly generations: DurableGenerations;
  readonly room: JobsRoom;
  /** As SIGTERM does: takes no more, and hands back what runs after the grace. */
  readonly drain: (graceMilliseconds: number) => Promise<void>;
  /** the log so far, one JSON object an entry */
  readonly log: readonly string[];
  /** a token this service accepts for everything, unless claims say otherwise */
  readonly sign: (claims?: JWTPayload) => Promise<string>;
  /** `fetch` with such a token */
  readonly call: (path: string, init?: RequestInit) => Promise<Response>;
}

const issuer = "https://id.test";
/** `aud` of every token of this service. */
export const audience = "idadapter-test";

/** Nothing here is short, unless a test wants it to be. */
const generousSettings: JobSettings = { ...testSettings, initialCredit: 1_000_000_000, mostAtOnce: 1000 };

/** One embedded database for all tests of a file: opening takes longer than most of them. */
const store = await openTestStore();
const shared = await openTestRoom(store);
Deno.test.afterAll(async () => {
  await shared[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
});

/**
 * Starts a service.
 *
 * @param options the model and what else a test chooses
 * @returns the running service
 */
export async function startService(options: TestServiceOptions): Promise<TestService> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const keys = createLocalJWKSet({ keys: [{ ...await exportJWK(publicKey), alg: "ES256" }] });
  const log: string[] = [];
  const logger = createLogger({ level: "debug", write: (line) => log.push(line) });
  const room: JobsRoom = { ...shared, settings: { ...generousSettings, ...options.settings } };
  const generations = new DurableGenerations(room, logGenerations(logger));
  const running = await runGenerations(room, {
    get model() {
      return options.model()!.manifest.name;
    },
    run: ({ input, previewInterval }, signal, onEvent) =>
      options.model()!.inference.generate(input, { signal, previewInterval, onEvent }),
  }, {
    concurrency: 4,
    onFault: (id, error) => logger("error", "a run of a generation failed", { id, ...errorFields(error) }),
  });
  let draining = false;
  const drain = async (graceMilliseconds: number) => {
    draining = true;
    await running.stop(graceMilliseconds);
    await generations.close();
  };
  const { requestsPerMinute = 100_000 } = options;
  const app = createApp({
    model: options.model,
    jobs: () =>
      options.jobs === false ? undefined : { room, generations, requestsPerMinute, webhooksToPrivate: true },
    draining: () => draining,
    metrics: new Registry(),
    ...(options.onProblem === undefined ? {} : { onProblem: options.onProblem }),
    ...(options.corsOrigins === undefined ? {} : { corsOrigins: options.corsOrigins }),
    verifyToken: options.verifyToken ??
      createTokenVerifier({ issuer, audience, algorithms: ["ES256"], clockToleranceSeconds: 0, keys }),
    accountTokens: {
      issuer: accountTokenIssuer,
      audience,
      algorithms: ["ES256", "EdDSA", "Ed25519", "RS256"],
      clockToleranceSeconds: 0,
    },
    maxBodyBytes: options.maxBodyBytes ?? 33_554_432,
    log: logger,
    ...(options.randomSeed === undefined ? {} : { randomSeed: options.randomSeed }),
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const address = `http://127.0.0.1:${server.addr.port}`;
  const sign = (claims: JWTPayload = {}) =>
    new SignJWT({
      sub: "tester",
      iss: issuer,
      aud: audience,
      scope: allScopes,
      exp: Math.floor(Date.now() / 1000) + 600,
      ...claims,
    }).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
  const token = await sign();
  return {
    address,
    generations,
    room,
    drain,
    log,
    sign,
    call: (path, init = {}) => {
      const headers = new Headers(init.headers);
      if (!headers.has("Authorization")) headers.set("Authorization", `Bearer ${token}`);
      return fetch(`${address}${path}`, { ...init, headers });
    },
    async [Symbol.asyncDispose]() {
      const open = await room.store.queries.selectFrom("generations").select("id")
        .where("state", "in", ["queued", "running"]).execute();
      for (const { id } of open) await withdraw(room, id, "canceled");
      await drain(0);
      await server.shutdown();
    },
  };
}

/**
 * A JSON request body with its media type.
 *
 * @param body anything
 * @returns what `fetch` takes
 */
export function asJson(body: unknown): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/**
 * A multipart request body.
 *
 * @param fields text, or bytes that are sent as a file; a list repeats the field
 * @returns what `fetch` takes
 */
export function asForm(fields: Readonly<Record<string, FormValue | readonly FormValue[]>>): RequestInit {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    const values = Array.isArray(value) ? value as readonly FormValue[] : [value as FormValue];
    for (const entry of values) {
      if (typeof entry === "string") form.append(name, entry);
      else form.append(name, new File([entry], "photo"));
    }
  }
  return { method: "POST", body: form };
}

/** Text, or the bytes of a file. */
export type FormValue = string | Uint8Array<ArrayBuffer>;
