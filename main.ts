/**
 * The process: reads the configuration, listens, loads the model, and on SIGTERM finishes what it has begun.
 *
 * Exit codes: 0 after a signal, 1 when the model cannot be loaded, its worker died or the database cannot be used, 2 when the
 * configuration is wrong.
 */

import { type Config, ConfigError, loadConfig } from "./config.ts";
import { fetchBundle } from "./models/fetch_bundle.ts";
import { loadManifest } from "./models/manifest.ts";
import type { Executor } from "./jobs/executor.ts";
import { problemCodes } from "./openapi/problems.ts";
import { startInference } from "./pipeline/client.ts";
import type { Measurements } from "./pipeline/messages.ts";
import { countWaiting } from "./jobs/read_generation.ts";
import { createApp } from "./routes/app.ts";
import type { ServedModel } from "./routes/app_options.ts";
import { logGenerations } from "./routes/generation_log.ts";
import { createLogger, errorFields, type Logger } from "./routes/logger.ts";
import { signDevelopmentToken } from "./routes/tokens/development_token.ts";
import { createKeySource } from "./routes/tokens/key_source.ts";
import { accountTokenIssuer } from "./routes/tokens/verify_account_token.ts";
import { createTokenVerifier } from "./routes/tokens/verify_token.ts";
import { type JobsService, openJobs } from "./serve_jobs.ts";
import { openS3Folder } from "./store/s3_objects.ts";
import { ServiceMetrics } from "./telemetry/metrics.ts";
import { traceGenerations } from "./telemetry/traces.ts";

function readConfig(): Config {
  return loadConfig(Deno.env.toObject(), {
    cores: navigator.hardwareConcurrency,
    workingDirectory: Deno.cwd(),
  });
}

/** Fills the bundle's folder where it is configured to come from elsewhere. */
async function bringBundle({ bundle, bundleSource }: Config, log: Logger): Promise<void> {
  if (bundleSource === undefined) return;
  const { bucket, prefix, manifestSha256 } = bundleSource;
  if (manifestSha256 === undefined) {
    log("warn", "BUNDLE_SHA256 is not set: whoever may write the bucket decides what is served", { bucket });
  }
  log("info", "fetching bundle", { bucket, prefix, folder: bundle });
  const began = performance.now();
  using objects = await openS3Folder(bundleSource);
  const fetched = await fetchBundle({ open: objects.open, folder: bundle, manifestSha256 });
  log("info", "bundle fetched", { ...fetched, seconds: Math.round(performance.now() - began) / 1000 });
}

/** Loads the bundle; a failure says what to do and ends the process. */
async function loadModel(
  config: Config,
  log: Logger,
  onMeasured: (measurements: Measurements) => void,
  onDied: () => void,
): Promise<ServedModel> {
  const { bundle, graphCache, executionProvider: provider, threads, maxBatch, maxQueue } = config;
  log("info", "loading model", { bundle, provider, threads });
  try {
    await bringBundle(config, log);
    const manifest = await loadManifest(bundle);
    const inference = await startInference({
      bundle,
      provider,
      threads,
      cacheFolder: graphCache,
      maxQueue: Math.max(maxQueue, AHEAD),
      onMeasured,
      onDied,
      ...(maxBatch === undefined ? {} : { maxBatch }),
    });
    return { manifest, inference };
  } catch (error) {
    // nothing of a request can be in this message
    log("error", "the model cannot be loaded", {
      ...errorFields(error),
      reason: error instanceof Error ? error.message : String(error),
      remedy: "Check BUNDLE and EXECUTION_PROVIDER; the embedded bundle is models/default.",
    });
    Deno.exit(1);
  }
}

/** Whether only this machine reaches the service. */
function isLocal({ host }: Config): boolean {
  return ["127.0.0.1", "localhost", "::1"].includes(host);
}

function warnOfDevelopmentKey(config: Config, log: Logger): void {
  const { jwt } = config;
  if (jwt.keys.kind !== "development") return;
  const level = isLocal(config) ? "info" : "warn";
  log(level, "tokens are verified with this machine's development key; `deno task token` prints one", {
    path: jwt.keys.path,
    remedy: "Set JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE to trust an identity provider instead.",
  });
}

/** Resolves after `seconds`, without keeping the process alive. */
function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, seconds * 1000)));
}

/**
 * Generations beyond the batch that are taken from the queue: one is at hand when a place becomes free, while the one
 * before is still decoded and settled.
 */
const AHEAD = 1;

/** Seconds for answers to leave once every generation has ended. */
const ANSWER_SECONDS = 2;

/** Seconds for the database to be closed. */
const CLOSE_SECONDS = 5;

/** Opens the database; what only the operator can mend says what to do and ends the process. */
async function openDatabase(
  config: Config,
  log: Logger,
  metrics: () => ServiceMetrics,
): Promise<JobsService> {
  const observers = [
    logGenerations(log),
    traceGenerations(),
    (...[generation, event]: Parameters<ServiceMetrics["addEvent"]>) => metrics().addEvent(generation, event),
  ];
  try {
    return await openJobs(config, log, (generation, event) => {
      for (const observe of observers) observe(generation, event);
    });
  } catch (error) {
    log("error", "the database cannot be used", {
      ...errorFields(error),
      reason: error instanceof Error ? error.message : String(error),
      remedy:
        "Check DATABASE_URL, ENCRYPTION_KEYS, the S3 variables, or STATE_DIR where there is no DATABASE_URL.",
    });
    Deno.exit(1);
  }
}

/** Serves until a signal comes; a second signal ends the process at once. */
async function serve(config: Config): Promise<void> {
  const log = createLogger({ level: config.logLevel });
  const keys = await createKeySource(config.jwt.keys);
  const served: { model?: ServedModel; jobs?: JobsService; draining: boolean } = { draining: false };
  const metrics = new ServiceMetrics({
    load: () => served.model?.inference.load,
    waiting: async () =>
      served.jobs === undefined ? 0 : await countWaiting(served.jobs.room).catch(() => NaN),
    kept: () => served.jobs?.generations.size ?? { generations: 0, bytes: 0 },
    residentMemory: () => Deno.memoryUsage().rss,
    problemCodes,
  });
  const app = createApp({
    model: () => served.model,
    jobs: () => served.jobs,
    draining: () => served.draining,
    metrics: metrics.registry,
    onProblem: (code) => metrics.addProblem(code),
    verifyToken: createTokenVerifier({ ...config.jwt, keys }),
    ...(config.jwt.keys.kind === "development" && isLocal(config)
      ? { signPageToken: (scope: string) => signDevelopmentToken(config.jwt, { scope }) }
      : {}),
    accountTokens: {
      issuer: accountTokenIssuer,
      audience: config.jwt.audience,
      algorithms: ["ES256", "EdDSA", "Ed25519", "RS256"],
      clockToleranceSeconds: config.jwt.clockToleranceSeconds,
    },
    maxBodyBytes: config.maxBodyBytes,
    corsOrigins: config.corsOrigins,
    log,
  });
  warnOfDevelopmentKey(config, log);
  const server = Deno.serve({
    hostname: config.host,
    port: config.port,
    onListen: ({ hostname, port }) => log("info", "listening", { host: hostname, port }),
  }, app.fetch);

  let stopping = false;
  const stop = async (signal: Deno.Signal) => {
    if (stopping) Deno.exit(1);
    stopping = true;
    log("info", "stopping", { signal, grace_seconds: config.shutdownGraceSeconds });
    served.draining = true;
    // whoever watches or polls a generation may go on doing so until it has ended; the rest goes back to the queue
    await served.jobs?.drain(config.shutdownGraceSeconds * 1000);
    await Promise.race([server.shutdown(), pause(ANSWER_SECONDS)]);
    await Promise.race([served.jobs?.close(), pause(CLOSE_SECONDS)]);
    await served.model?.inference.close();
    Deno.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(signal, () => void stop(signal));
  }

  const jobs = openDatabase(config, log, () => metrics).then((jobs) => served.jobs = jobs);
  const onDied = async () => {
    if (stopping) return;
    log("error", "stopping: the inference worker died, and only a new process has another");
    served.draining = true;
    await Promise.race([served.jobs?.drain(0), pause(ANSWER_SECONDS)]);
    Deno.exit(1);
  };
  const model = await loadModel(
    config,
    log,
    (measurements) => metrics.addMeasurements(measurements),
    () => void onDied(),
  );
  served.model = model;
  const { inference } = model;
  const executor: Executor = {
    model: model.manifest.name,
    run: ({ input, previewInterval }, signal, onEvent) =>
      inference.generate(input, { signal, previewInterval, onEvent }),
  };
  await (await jobs).run(executor, inference.load.maxBatch + AHEAD, () => metrics.addBegunAgain());
  log("info", "ready", {
    model: model.manifest.name,
    version: model.manifest.version,
    max_batch: inference.load.maxBatch,
  });
}

if (import.meta.main) {
  try {
    await serve(readConfig());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error("The configuration is wrong:");
    for (const problem of error.problems) console.error(`  ${problem}`);
    Deno.exit(2);
  }
}
