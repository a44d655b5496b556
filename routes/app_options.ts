/** What the app is built from, and what its handlers share. */

import type { Manifest } from "../models/manifest.ts";
import type { DurableGenerations } from "../jobs/durable_generations.ts";
import type { IdempotentRequest } from "../jobs/idempotency.ts";
import type { JobsRoom } from "../jobs/room.ts";
import type { Inference } from "../pipeline/inference.ts";
import type { ProblemCode } from "../openapi/problems.ts";
import type { Logger } from "./logger.ts";
import { ProblemError } from "./problem_error.ts";
import type { RequestCeiling } from "../jobs/generation.ts";
import type { AccountTokenRules } from "./tokens/verify_account_token.ts";
import type { TokenVerifier } from "./tokens/verify_token.ts";

/** A bundle and the worker that runs it. */
export interface ServedModel {
  readonly manifest: Manifest;
  readonly inference: Inference;
}

/** The open database, and what works on it. */
export interface ServedJobs {
  readonly room: JobsRoom;
  readonly generations: DurableGenerations;
  readonly requestsPerMinute: number;
  readonly webhooksToPrivate: boolean;
}

/** Everything the app needs from outside. */
export interface AppOptions {
  /** undefined until the bundle is loaded and warm: HTTP answers before it is */
  readonly model: () => ServedModel | undefined;
  /** undefined until the database is open and migrated */
  readonly jobs: () => ServedJobs | undefined;
  /** true once the process is about to end: new generations are refused, those under way go on */
  readonly draining?: () => boolean;
  /** the figures of `GET /metrics`; a registry of prom-client is one */
  readonly metrics: { readonly contentType: string; metrics(): Promise<string> };
  /** told of every request that is answered with a problem */
  readonly onProblem?: (code: ProblemCode) => void;
  /** judges tokens of the identity provider */
  readonly verifyToken: TokenVerifier;
  /** signs a token for the page; only with the development key and a listener that only this machine reaches */
  readonly signPageToken?: (scope: string) => Promise<string>;
  /** how tokens are judged that accounts sign with keys of their own */
  readonly accountTokens: AccountTokenRules;
  readonly maxBodyBytes: number;
  /** origins whose pages may call from a browser; `*` for all, none where it is left out */
  readonly corsOrigins?: readonly string[];
  readonly log: Logger;
  /** draws the seed of a request that names none, an unsigned 32-bit number */
  readonly randomSeed?: () => number;
}

/** Hono's type of what middleware leaves for handlers. */
export interface AppEnv {
  Variables: {
    requestId: string;
    /** `sub` of the token; unset on public routes */
    subject?: string;
    /** what the token allows */
    scopes?: ReadonlySet<string>;
    /** most that the token may ask for at a time */
    ceiling?: RequestCeiling;
    /** whom of the account's own users the token is for */
    endUser?: string;
    /** the client the token was issued to */
    client?: string;
    /** what the request's Idempotency-Key stands for, if it has one */
    idempotency?: IdempotentRequest;
    /** for the access log, when the answer is a problem */
    problemCode?: ProblemCode;
  };
}

/**
 * The model, if it can be used right now.
 *
 * @param options of the app
 * @returns the bundle's manifest and the worker
 * @throws {ProblemError} `not_ready` while it is loading, `worker_failed` when it was loaded and its worker died
 */
export function requireModel(options: AppOptions): ServedModel {
  const model = options.model();
  if (model === undefined) throw new ProblemError("not_ready", "The model is being loaded and warmed.");
  if (!model.inference.ready) {
    throw new ProblemError("worker_failed", "The inference worker stopped: the service must be restarted.");
  }
  return model;
}

/**
 * The model, if it takes new work.
 *
 * @param options of the app
 * @returns the bundle's manifest and the worker
 * @throws {ProblemError} `shutting_down` when the process is about to end, or what {@linkcode requireModel} throws
 */
export function requireRunning(options: AppOptions): ServedModel {
  if (options.draining?.() === true) throw new ProblemError("shutting_down", "The service is shutting down.");
  return requireModel(options);
}

/**
 * The jobs, if the database is there.
 *
 * @param options of the app
 * @returns what works on the database
 * @throws {ProblemError} `store_unavailable` until it has been opened
 */
export function requireJobs(options: AppOptions): ServedJobs {
  const jobs = options.jobs();
  if (jobs === undefined) throw new ProblemError("store_unavailable", "The database is not open yet.");
  return jobs;
}
