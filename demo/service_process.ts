/** The real service as a child process: a free port, a state folder of its own, the permissions it needs and no more. */

import { fileURLToPath } from "node:url";
import { loadConfig, type TokenConfig } from "../config.ts";
import { DemoFailure } from "./failure.ts";

/** A running, ready service; `await using` stops it and removes its state. */
export interface ServiceProcess extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly address: string;
  /** how it judges tokens; its keys are a development key in the state folder */
  readonly jwt: TokenConfig;
  /** rejects when the process ends before it is told to */
  readonly died: Promise<never>;
}

/** Lines of the service's log that a failure quotes. */
const quotedLines = 12;
/** How long the service may take to finish what it has begun, and we wait before we end it. */
const graceSeconds = 3;
const pollMilliseconds = 50;

const repository = fileURLToPath(new URL("..", import.meta.url));

/**
 * What a throw-away service is told, whatever the shell says; empty counts as unset.
 *
 * @param stateFolder of its own
 */
export function throwAwayEnvironment(stateFolder: string): Record<string, string> {
  return {
    HOST: "127.0.0.1",
    PORT: "0",
    STATE_DIR: stateFolder,
    // what an operator's shell may say of databases and accounts is not meant for a throw-away service
    DATABASE_URL: "",
    ENCRYPTION_KEYS: "",
    S3_BUCKET: "",
    USAGE_EVENTS_URL: "",
    INITIAL_CREDIT: "",
    REQUESTS_PER_MINUTE: "1000000",
    GENERATIONS_AT_ONCE: "1000",
    JWT_JWKS_URL: "",
    JWT_JWKS_FILE: "",
    JWT_ISSUER: "",
    JWT_AUDIENCE: "",
    JWT_ALGORITHMS: "",
    MAX_BODY_BYTES: "",
    // ONNX Runtime would report to its maker
    ORT_DISABLE_TELEMETRY: "1",
    LOG_LEVEL: "info",
    SHUTDOWN_GRACE_SECONDS: String(graceSeconds),
  };
}

function spawn(stateFolder: string, variables: Readonly<Record<string, string>>): Deno.ChildProcess {
  const bundle = variables["BUNDLE"] ?? Deno.env.get("BUNDLE") ?? "";
  const readable = [repository, stateFolder, bundle].filter((path) => path !== "");
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--cached-only",
      "--allow-net=127.0.0.1",
      `--allow-read=${readable.join(",")}`,
      `--allow-write=${stateFolder}`,
      "--allow-env",
      "--allow-ffi",
      "--allow-sys",
      "main.ts",
    ],
    cwd: repository,
    env: { ...throwAwayEnvironment(stateFolder), ...variables },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

/** What the service has written so far. */
class ServiceLog {
  readonly #lines: string[] = [];

  /** Reads until the process closes its standard error. */
  async follow(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#lines.push(...lines);
    }
  }

  /** The last line with this message. */
  find(message: string): Record<string, unknown> | undefined {
    for (const line of this.#lines.toReversed()) {
      if (!line.startsWith("{")) continue;
      const entry = JSON.parse(line);
      if (entry.message === message) return entry;
    }
  }

  /** The last lines, for people. */
  get tail(): readonly string[] {
    return this.#lines.slice(-quotedLines);
  }
}

function deathOf(log: ServiceLog, code: number): DemoFailure {
  const refusal = log.find("the model cannot be loaded") ?? log.find("the database cannot be used");
  if (refusal !== undefined) {
    return new DemoFailure("service_failed", String(refusal.reason), String(refusal.remedy));
  }
  return new DemoFailure(
    "service_failed",
    `The service ended with exit code ${code}.`,
    "Read its last words below; `deno task start` starts it alone.",
    log.tail,
  );
}

async function stop(child: Deno.ChildProcess): Promise<void> {
  const kill = (signal: Deno.Signal) => {
    try {
      child.kill(signal);
    } catch {
      // it has ended already, which is what was wanted
    }
  };
  kill("SIGTERM");
  const timer = setTimeout(() => kill("SIGKILL"), (graceSeconds + 2) * 1000);
  await child.status;
  clearTimeout(timer);
}

async function poll<T>(signal: AbortSignal, attempt: () => Promise<T | undefined>): Promise<T> {
  while (true) {
    signal.throwIfAborted();
    const found = await attempt();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, pollMilliseconds));
  }
}

async function waitUntilReady(log: ServiceLog, signal: AbortSignal): Promise<string> {
  const port = await poll(signal, () => Promise.resolve(log.find("listening")?.port));
  const address = `http://127.0.0.1:${port}`;
  await poll(signal, async () => {
    try {
      const response = await fetch(`${address}/readyz`, { signal });
      await response.body?.cancel();
      return response.ok ? true : undefined;
    } catch {
      // a service that ends while it is asked is told by its exit, with its reason; giving up, by the signal
      return undefined;
    }
  });
  return address;
}

/**
 * Starts the service and waits until its model is loaded and warm.
 *
 * @param signal aborting it gives up waiting
 * @param variables of the service's environment that are to be others than this process's
 * @returns the service; stop it with `await using`
 * @throws {DemoFailure} `service_failed` when the process ends before it is ready
 *
 * @example
 * ```ts
 * await using service = await startService(AbortSignal.timeout(300_000));
 * const health = await fetch(`${service.address}/healthz`);
 * ```
 */
export async function startService(
  signal: AbortSignal,
  variables: Readonly<Record<string, string>> = {},
): Promise<ServiceProcess> {
  const stateFolder = await Deno.makeTempDir({ prefix: "idadapter-demo-" });
  const child = spawn(stateFolder, variables);
  const log = new ServiceLog();
  const followed = log.follow(child.stderr);
  const died = child.status.then(async ({ code }): Promise<never> => {
    await followed;
    throw deathOf(log, code);
  });
  // whoever races with it hears of it; after a stop nobody does
  died.catch(() => {});
  const dispose = async () => {
    await stop(child);
    await followed;
    await Deno.remove(stateFolder, { recursive: true });
  };
  try {
    const given = new AbortController();
    const patience = AbortSignal.any([signal, given.signal]);
    const address = await Promise.race([waitUntilReady(log, patience), died]).finally(() => given.abort());
    const { jwt } = loadConfig({ STATE_DIR: stateFolder }, { cores: 1, workingDirectory: repository });
    return { address, jwt, died, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
