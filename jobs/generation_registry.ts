import { PipelineError } from "../pipeline/protocol.ts";
import {
  type Generation,
  type GenerationEvent,
  type GenerationRequest,
  type Generations,
  isFinal,
  type WatchOptions,
} from "./generation.ts";
import { GenerationRecord } from "./generation_record.ts";

/** How long and how much is kept. */
export interface RegistryOptions {
  /** how long a generation may take from its request on, waiting included */
  readonly timeoutSeconds: number;
  /** how long a finished one is kept */
  readonly resultTtlSeconds: number;
  /** most memory that finished ones may take; beyond it the oldest go first */
  readonly maxResultBytes: number;
  /**
   * told of every event, in the call that caused it
   *
   * @param cause what was thrown, of a generation that failed
   */
  readonly onEvent?: (generation: Generation, event: GenerationEvent, cause?: unknown) => void;
  /** milliseconds since 1970 */
  readonly now?: () => number;
}

/**
 * Generations in this process's memory: runs them, tells of them, and forgets them after a while. They end with the
 * process.
 *
 * @example
 * ```ts
 * const registry = new GenerationRegistry({ timeoutSeconds: 600, resultTtlSeconds: 900, maxResultBytes: 2 ** 28 });
 * const { id } = await registry.submit({ account: "alice", requestId, model, inference, input, previewInterval: 0 });
 * for await (const event of await registry.watch("alice", id) ?? []) console.log(event.type);
 * ```
 */
export class GenerationRegistry implements Generations {
  readonly #options: RegistryOptions;
  readonly #now: () => number;
  /** oldest first */
  readonly #records = new Map<string, GenerationRecord>();
  readonly #running = new Set<Promise<void>>();
  #draining = false;

  /** @param options how long and how much is kept, and who is told */
  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => Date.now());
  }

  /** how many are kept, and the bytes they take */
  get size(): { readonly generations: number; readonly bytes: number } {
    const records = [...this.#records.values()];
    return { generations: records.length, bytes: records.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** whether new ones are refused, because the process is about to end */
  get draining(): boolean {
    return this.#draining;
  }

  /** @inheritDoc */
  // deno-lint-ignore require-await -- refusals are rejections, as those of a registry behind a database will be
  async submit(request: GenerationRequest): Promise<Generation> {
    this.sweep();
    if (this.#draining) throw shuttingDown();
    request.inference.requireRoom();
    const { onEvent } = this.#options;
    const id = `gen_${crypto.randomUUID()}`;
    let cause: unknown;
    const record: GenerationRecord = new GenerationRecord(
      id,
      request,
      new Date(this.#now()),
      (event) => onEvent?.(event.type === "queued" ? event.generation : record.generation, event, cause),
    );
    this.#records.set(id, record);
    const running = this.#run(record, request, (error) => cause = error)
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    return record.generation;
  }

  /** @inheritDoc */
  find(account: string, id: string): Promise<Generation | undefined> {
    return Promise.resolve(this.#find(account, id)?.generation);
  }

  /** @inheritDoc */
  watch(
    account: string,
    id: string,
    { after = 0, signal }: WatchOptions = {},
  ): Promise<AsyncIterable<GenerationEvent> | undefined> {
    return Promise.resolve(this.#find(account, id)?.watch(after, signal));
  }

  /** @inheritDoc */
  cancel(account: string, id: string): Promise<Generation | undefined> {
    const record = this.#find(account, id);
    if (record !== undefined) this.#cancel(record);
    return Promise.resolve(record?.generation);
  }

  /** @inheritDoc */
  remove(account: string, id: string): Promise<boolean> {
    const record = this.#find(account, id);
    if (record !== undefined) {
      this.#cancel(record);
      this.#records.delete(id);
    }
    return Promise.resolve(record !== undefined);
  }

  /** Forgets what has expired or is too much; called with every request, and now and then without one. */
  sweep(): void {
    const now = this.#now();
    const finished = [...this.#records].filter(([, { generation }]) => isFinal(generation));
    let bytes = finished.reduce((sum, [, record]) => sum + record.bytes, 0);
    for (const [id, record] of finished) {
      const expired = (record.generation.expiresAt?.getTime() ?? now) <= now;
      if (!expired && bytes <= this.#options.maxResultBytes) continue;
      bytes -= record.bytes;
      this.#records.delete(id);
    }
  }

  /**
   * Takes no more generations, waits for those that run, and ends the rest.
   *
   * @param patience settles when waiting must stop
   * @returns those that had to be ended, which failed with `shutting_down`
   */
  async drain(patience: Promise<void>): Promise<readonly Generation[]> {
    this.#draining = true;
    await Promise.race([Promise.allSettled(this.#running), patience]);
    const unfinished = [...this.#records.values()].filter(({ generation }) => !isFinal(generation));
    for (const record of unfinished) this.#stop(record, shuttingDown());
    return unfinished.map(({ generation }) => generation);
  }

  async #run(
    record: GenerationRecord,
    { inference, input, previewInterval }: GenerationRequest,
    onError: (error: unknown) => void,
  ): Promise<void> {
    const { timeoutSeconds } = this.#options;
    const timer = setTimeout(() => {
      const message = `The generation did not finish within ${timeoutSeconds} seconds`;
      this.#stop(record, new PipelineError("deadline_exceeded", message, { seconds: timeoutSeconds }));
    }, timeoutSeconds * 1000);
    try {
      const { images, timings } = await inference.generate(input, {
        signal: record.controller.signal,
        previewInterval,
        onEvent: (event) => record.receive(event),
      });
      record.succeed(images, timings, this.#expiry());
    } catch (error) {
      onError(error);
      record.fail(error, this.#expiry());
    } finally {
      clearTimeout(timer);
      this.sweep();
    }
  }

  #cancel(record: GenerationRecord): void {
    this.#stop(record, new PipelineError("canceled", "The generation was canceled"));
  }

  /** Ends a generation now; the worker learns of it before its next step. */
  #stop(record: GenerationRecord, reason: PipelineError): void {
    record.fail(reason, this.#expiry());
    record.controller.abort(reason);
  }

  #expiry(): Date {
    return new Date(this.#now() + this.#options.resultTtlSeconds * 1000);
  }

  #find(account: string, id: string): GenerationRecord | undefined {
    this.sweep();
    const record = this.#records.get(id);
    return record?.generation.account === account ? record : undefined;
  }
}

function shuttingDown(): PipelineError {
  return new PipelineError("shutting_down", "The service is shutting down");
}
