/** What a serverless platform does in front of a service: starts it for the first request, ends it when nobody asks. */

/** A process that can be started and stopped again. */
export interface Startable {
  readonly address: string;
  start(): void;
  /** resolves when it serves */
  ready(): Promise<void>;
  stop(signal: "SIGTERM"): Promise<void>;
}

/** How an {@linkcode Activator} behaves, and who is told. */
export interface ActivatorOptions {
  readonly service: Startable;
  /** without a request for this long, the service is stopped */
  readonly idleMilliseconds: number;
  readonly onReady: (seconds: number) => void;
  readonly onStopped: (seconds: number) => void;
}

/**
 * Holds requests until the service is ready, hands them on, and stops the service with SIGTERM once none has been under way
 * for a while. A request that comes while it stops waits for the next start: none is ever sent to a process that is told to end.
 */
export class Activator implements AsyncDisposable {
  /** where requests go */
  readonly address: string;
  readonly #options: ActivatorOptions;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #underWay = 0;
  #ready: Promise<void> | undefined;
  #stopping: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Listens on a free port of 127.0.0.1; the service stays as it is: stopped. */
  constructor(options: ActivatorOptions) {
    this.#options = options;
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => this.#handle(request),
    );
    this.address = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Whether a process is there, starting ones included. */
  get running(): boolean {
    return this.#ready !== undefined;
  }

  async #handle(request: Request): Promise<Response> {
    this.#underWay++;
    clearTimeout(this.#timer);
    try {
      await (this.#ready ??= this.#start());
      const { pathname, search } = new URL(request.url);
      const answer = await fetch(this.#options.service.address + pathname + search, {
        method: request.method,
        headers: request.headers,
        body: request.body,
        redirect: "manual",
      });
      // an answer that is still being read counts as under way
      const body = await answer.arrayBuffer();
      return new Response(body.byteLength === 0 ? null : body, {
        status: answer.status,
        headers: answer.headers,
      });
    } finally {
      if (--this.#underWay === 0) {
        this.#timer = setTimeout(() => void this.stop(), this.#options.idleMilliseconds);
      }
    }
  }

  async #start(): Promise<void> {
    await this.#stopping;
    const began = performance.now();
    this.#options.service.start();
    await this.#options.service.ready();
    this.#options.onReady((performance.now() - began) / 1000);
  }

  /** Stops the service, if it runs. */
  stop(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#ready === undefined) return this.#stopping;
    const ready = this.#ready;
    this.#ready = undefined;
    const end = async () => {
      await ready;
      const began = performance.now();
      await this.#options.service.stop("SIGTERM");
      this.#options.onStopped((performance.now() - began) / 1000);
    };
    return this.#stopping = end();
  }

  /** Stops both. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
    await this.stop();
  }
}
