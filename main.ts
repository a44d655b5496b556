/**
 * The process: reads the configuration, listens, loads the model, and on SIGTERM finishes what it has begun.
 *
 * Exit codes: 0 after a signal, 1 when the model cannot be loaded, 2 when the configuration is wrong.
 */

import { type Config, ConfigError, loadConfig } from "./config.ts";
import { loadManifest } from "./models/manifest.ts";
import { GenerationRegistry } from "./jobs/generation_registry.ts";
import { startInference } from "./pipeline/client.ts";
import type { Measurements } from "./pipeline/messages.ts";
import { createApp } from "./routes/app.ts";
import type { ServedModel } from "./routes/app_options.ts";
import { logGenerations } from "./routes/generation_log.ts";
import { createLogger, errorFields, type Logger } from "./routes/logger.ts";
import { createKeySource } from "./routes/tokens/key_source.ts";
import { createTokenVerifier } from "./routes/tokens/verify_token.ts";
import { ServiceMetrics } from "./telemetry/metrics.ts";
import { traceGenerations } from "./telemetry/traces.ts";

function readConfig(): Config {
  return loadConfig(Deno.env.toObject(), {
    cores: navigator.hardwareConcurrency,
    workingDirectory: Deno.cwd(),
  });
}

/** Loads the bundle; a failure says what to do and ends the process. */
async function loadModel(
  config: Config,
  log: Logger,
  onMeasured: (measurements: Measurements) => void,
): Promise<ServedModel> {
  const { bundle, executionProvider: provider, threads, maxBatch, maxQueue } = config;
  log("info", "loading model", { bundle, provider, threads });
  try {
    const manifest = await loadManifest(bundle);
    const inference = await startInference({
      bundle,
      provider,
      threads,
      maxQueue,
      onMeasured,
      ...(maxBatch === undefined ? {} : { maxBatch }),
    });
    const { load } = inference;
    log("info", "ready", { model: manifest.name, version: manifest.version, max_batch: load.maxBatch });
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

function warnOfDevelopmentKey({ jwt, host }: Config, log: Logger): void {
  if (jwt.keys.kind !== "development") return;
  const level = ["127.0.0.1", "localhost", "::1"].includes(host) ? "info" : "warn";
  log(level, "tokens are verified with this machine's development key; `deno task token` prints one", {
    path: jwt.keys.path,
    remedy: "Set JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE to trust an identity provider instead.",
  });
}

/** Resolves after `seconds`, without keeping the process alive. */
function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, seconds * 1000)));
}

/** Seconds for answers to leave once every generation has ended. */
const ANSWER_SECONDS = 2;

/** Seconds between two looks for results that have expired. */
const SWEEP_SECONDS = 30;

/** Keeps generations, and tells log, figures and traces of them. */
function createRegistry(config: Config, log: Logger, metrics: () => ServiceMetrics): GenerationRegistry {
  const observers = [
    logGenerations(log),
    traceGenerations(),
    (...[generation, event]: Parameters<ServiceMetrics["addEvent"]>) => metrics().addEvent(generation, event),
  ];
  const registry = new GenerationRegistry({
    timeoutSeconds: config.generationTimeoutSeconds,
    resultTtlSeconds: config.resultTtlSeconds,
    maxResultBytes: config.maxResultBytes,
    onEvent: (generation, event, cause) => {
      for (const observe of observers) observe(generation, event, cause);
    },
  });
  Deno.unrefTimer(setInterval(() => registry.sweep(), SWEEP_SECONDS * 1000));
  return registry;
}

/** Serves until a signal comes; a second signal ends the process at once. */
async function serve(config: Config): Promise<void> {
  const log = createLogger({ level: config.logLevel });
  const keys = await createKeySource(config.jwt.keys);
  const served: { model?: ServedModel } = {};
  const generations = createRegistry(config, log, () => metrics);
  const metrics = new ServiceMetrics({
    load: () => served.model?.inference.load,
    kept: () => generations.size,
    residentMemory: () => Deno.memoryUsage().rss,
  });
  const app = createApp({
    model: () => served.model,
    generations,
    draining: () => generations.draining,
    metrics: metrics.registry,
    onProblem: (code) => metrics.addProblem(code),
    verifyToken: createTokenVerifier({ ...config.jwt, keys }),
    maxBodyBytes: config.maxBodyBytes,
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
    // whoever watches or polls a generation may go on doing so until it has ended
    const unfinished = await generations.drain(pause(config.shutdownGraceSeconds));
    if (unfinished.length > 0) log("warn", "unfinished", { ids: unfinished.map(({ id }) => id) });
    await Promise.race([server.shutdown(), pause(ANSWER_SECONDS)]);
    await served.model?.inference.close();
    Deno.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(signal, () => void stop(signal));
  }

  served.model = await loadModel(config, log, (measurements) => metrics.addMeasurements(measurements));
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
