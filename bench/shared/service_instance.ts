/** One instance of the real service that can be killed and started again on the same port and state. */

import { fileURLToPath } from "node:url";
import { loadConfig } from "../../config.ts";
import { throwAwayEnvironment } from "../../demo/service_process.ts";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";

/** What the instances of a bench are started with. */
export interface InstanceOptions {
  /** holds the development key; instances that share it take each other's tokens */
  readonly stateFolder: string;
  /** of the service, for example `DATABASE_URL` */
  readonly variables: Readonly<Record<string, string>>;
}

const repository = fileURLToPath(new URL("../..", import.meta.url));

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** An instance, running or not. */
export class ServiceInstance implements AsyncDisposable {
  readonly address: string;
  readonly #options: InstanceOptions;
  readonly #port: number = freePort();
  #child: Deno.ChildProcess | undefined;

  /** @param options what it is started with */
  constructor(options: InstanceOptions) {
    this.#options = options;
    this.address = `http://127.0.0.1:${this.#port}`;
  }

  /** Starts the process; does not wait until it is ready. */
  start(): void {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--cached-only", "--allow-all", "main.ts"],
      cwd: repository,
      env: {
        ...throwAwayEnvironment(this.#options.stateFolder),
        PORT: String(this.#port),
        LOG_LEVEL: "error",
        MAX_BATCH: "4",
        GENERATIONS_AT_ONCE: "100000",
        MAX_QUEUE: "10000",
        ...this.#options.variables,
      },
      stdin: "null",
      stdout: "null",
      // what it says while it is killed and started again is no news
      stderr: "null",
    }).spawn();
  }

  /** Waits until it serves. */
  async ready(): Promise<void> {
    while (true) {
      try {
        const response = await fetch(`${this.address}/readyz`);
        await response.body?.cancel();
        if (response.ok) return;
      } catch {
        // not listening yet
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends the process at once (SIGKILL), or in its own time (SIGTERM). */
  async stop(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    child.kill(signal);
    await child.status;
  }

  /** A token for an account of this instance. */
  token(subject: string): Promise<string> {
    const { jwt } = loadConfig({ STATE_DIR: this.#options.stateFolder }, {
      cores: 1,
      workingDirectory: repository,
    });
    return signDevelopmentToken(jwt, { subject, expiresIn: "12h" });
  }

  /** Kills what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }
}
