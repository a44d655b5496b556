/** Generations in the database, told of by whichever instance is asked. */

import { persist, rest } from "../store/persist.ts";
import { isStoreUnavailable } from "../store/unavailable.ts";
import { accept } from "./accept.ts";
import type {
  Generation,
  GenerationEvent,
  GenerationRequest,
  Generations,
  WatchOptions,
} from "./generation.ts";
import { isFinal } from "./generation.ts";
import { GenerationRecord } from "./generation_record.ts";
import { imageKey } from "./image_store.ts";
import { isTerminal, type Notice } from "./notices.ts";
import { describe, findRow, fromRow } from "./read_generation.ts";
import type { JobsRoom } from "./room.ts";
import { type GenerationRow, withdraw } from "./settle.ts";
import { priceOf } from "../billing/price.ts";

/** How long closing waits for ends that have been told of and not been read yet. */
const lastLookMilliseconds = 2_000;

/** Between two looks at a row, or at pictures, that cannot be read: twice as long each time. */
const lookPauseMilliseconds = { first: 500, longest: 8_000 };

/** What an idempotency key stands for was erased, or its time is over. */
export class GenerationGoneError extends Error {
  override readonly name = "GenerationGoneError";
}

/** Told of the events of generations that were asked for here. */
export type GenerationObserver = (generation: Generation, event: GenerationEvent) => void;

/** Told, once a look, why a generation cannot be looked at now; it is tried again. */
export type LookFaultObserver = (id: string, error: unknown) => void;

/** A generation that is not over, as this instance follows it. */
interface Followed {
  readonly record: GenerationRecord;
  readonly stop: () => void;
}

/**
 * The durable {@linkcode Generations}: rows are the truth; what is in memory is only what can be told of a generation
 * while it lasts.
 *
 * @example
 * ```ts
 * const generations = new DurableGenerations(room);
 * const { id } = await generations.submit(request);
 * for await (const event of await generations.watch("alice", id) ?? []) console.log(event.type);
 * ```
 */
export class DurableGenerations implements Generations {
  readonly #room: JobsRoom;
  readonly #observe: GenerationObserver;
  readonly #onFault: LookFaultObserver;
  readonly #followed = new Map<string, Followed>();
  readonly #closed = new AbortController();
  readonly #looks = new Set<Promise<void>>();
  #watchers = 0;
  #onUnwatched = () => {};

  /**
   * @param room the jobs room
   * @param observe told of every event of generations that were asked for here
   * @param onFault told why somebody who watches has to wait for news longer than they take
   */
  constructor(
    room: JobsRoom,
    observe: GenerationObserver = () => {},
    onFault: LookFaultObserver = () => {},
  ) {
    this.#room = room;
    this.#observe = observe;
    this.#onFault = onFault;
  }

  /** generations that are followed, and the bytes of what is known of them */
  get size(): { readonly generations: number; readonly bytes: number } {
    const records = [...this.#followed.values()].map(({ record }) => record);
    return { generations: records.length, bytes: records.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** @inheritDoc */
  async submit(request: GenerationRequest): Promise<Generation> {
    const uuid = crypto.randomUUID();
    const draft = this.#draft(`gen_${uuid}`, request);
    // followed before it exists, so that nothing of it is missed
    let accepted = false;
    let written = false;
    const record: GenerationRecord = new GenerationRecord(draft, (event) => {
      if (accepted) this.#observe(record.generation, event);
    });
    this.#follow(record);
    try {
      const { id, repeated } = await accept(this.#room, request, uuid, () => written = true);
      if (!repeated) {
        accepted = true;
        this.#observe(draft, { type: "queued", number: 1, generation: draft });
        return record.generation;
      }
      this.#unfollow(draft.id);
      const first = await this.find(request.account, id);
      if (first === undefined) throw new GenerationGoneError("The generation of this key was erased.");
      return first;
    } catch (error) {
      this.#unfollow(draft.id);
      // What was lost may be the answer to the commit. Who has a key may ask again; for all others it is to cost nothing.
      const mayExist = written && isStoreUnavailable(error);
      if (mayExist && request.idempotency === undefined) this.#withdrawLater(draft.id);
      throw error;
    }
  }

  /** @inheritDoc */
  async find(account: string, id: string): Promise<Generation | undefined> {
    const row = await findRow(this.#room, id, account);
    if (row === undefined) return undefined;
    if (isTerminal(row.state)) return await describe(this.#room, row);
    const known = this.#followed.get(id)?.record.generation;
    // the row knows best whether it runs; only who runs it knows how far it is
    return known !== undefined && !isFinal(known)
      ? { ...known, status: row.state }
      : await describe(this.#room, row);
  }

  /** @inheritDoc */
  async watch(
    account: string,
    id: string,
    { after = 0, signal }: WatchOptions = {},
  ): Promise<AsyncIterable<GenerationEvent> | undefined> {
    const leave = AbortSignal.any([this.#closed.signal, ...(signal === undefined ? [] : [signal])]);
    const followed = this.#followed.get(id);
    if (followed !== undefined) {
      const { record } = followed;
      return record.generation.account === account ? this.#watch(record, after, leave) : undefined;
    }
    const row = await findRow(this.#room, id, account);
    if (row === undefined) return undefined;
    const record = new GenerationRecord(await describe(this.#room, row));
    if (isTerminal(row.state)) return this.#watch(record, after, leave);
    // another watcher may have been quicker: all of an instance share one record
    const quicker = this.#followed.get(id);
    if (quicker !== undefined) return this.#watch(quicker.record, after, leave);
    this.#follow(record);
    try {
      // it may have gone on between the look and the listening
      await this.#look(record);
    } catch (error) {
      // others may share this record by now: they are not to wait for news that has been missed
      this.#lookLater(record);
      throw error;
    }
    return this.#watch(record, after, leave);
  }

  /** @inheritDoc */
  async cancel(account: string, id: string): Promise<Generation | undefined> {
    if (await findRow(this.#room, id, account) === undefined) return undefined;
    await withdraw(this.#room, id, "canceled");
    return await this.find(account, id);
  }

  /** @inheritDoc */
  async remove(account: string, id: string): Promise<boolean> {
    const generation = await this.cancel(account, id);
    if (generation === undefined) return false;
    const { queries } = this.#room.store;
    // all there can be, whether or not a row knows of them
    const indices = Array.from({ length: generation.numImages }, (_, index) => index);
    await this.#room.images.remove(indices.map((index) => imageKey(id, index)));
    // whoever was making it may write its pictures yet: then the rows stay, and the sweep removes once more
    if (generation.status === "succeeded") {
      await queries.deleteFrom("generation_images").where("generation_id", "=", id).execute();
    }
    await queries.updateTable("generations").set(({ ref }) => ({ expires_at: ref("finished_at") }))
      .where("id", "=", id).execute();
    return true;
  }

  /**
   * Follows nothing any more: whoever watches is let go, and the generations go on.
   *
   * @param graceMilliseconds how long those who watch may go on before that, where another instance may run what they wait for
   */
  async close(graceMilliseconds = 0): Promise<void> {
    if (this.#room.store.kind === "server") await this.#unwatched(graceMilliseconds);
    // an end that has been told of is still passed on, unless the database is away
    const looked = new AbortController();
    void Promise.allSettled(this.#looks).then(() => looked.abort());
    await rest(lastLookMilliseconds, looked.signal);
    this.#closed.abort();
    for (const id of [...this.#followed.keys()]) this.#unfollow(id);
  }

  /** Events of a record, to somebody who is counted meanwhile. */
  async *#watch(
    record: GenerationRecord,
    after: number,
    leave: AbortSignal,
  ): AsyncGenerator<GenerationEvent> {
    this.#watchers++;
    try {
      yield* record.watch(after, leave);
    } finally {
      if (--this.#watchers === 0) this.#onUnwatched();
    }
  }

  /** Waits until nobody watches, and no longer than so many milliseconds. */
  async #unwatched(milliseconds: number): Promise<void> {
    const unwatched = new AbortController();
    this.#onUnwatched = () => unwatched.abort();
    if (this.#watchers > 0) await rest(milliseconds, unwatched.signal);
  }

  /** Cancels a generation that nobody knows of, if there is one, when the database is there again. */
  #withdrawLater(id: string): void {
    const { signal } = this.#closed;
    // what is left of it at the end of the process is an orphan like any other
    persist(() => withdraw(this.#room, id, "canceled"), { signal }).catch(() => {});
  }

  #draft(id: string, { account, requestId, model, input, pixels }: GenerationRequest): Generation {
    const { numImages, numInferenceSteps } = input;
    const work = { images: numImages, steps: numInferenceSteps, pixels };
    return {
      id,
      account,
      requestId,
      model,
      numImages,
      numInferenceSteps,
      price: priceOf(this.#room.settings.prices, work),
      createdAt: new Date(),
      status: "queued",
      progress: null,
      images: [],
      timings: null,
      failure: null,
      expiresAt: null,
      lastEvent: 1,
    };
  }

  #follow(record: GenerationRecord): void {
    const { id } = record.generation;
    const stop = this.#room.notices.subscribe(id, (notice) => this.#hear(record, notice));
    this.#followed.set(id, { record, stop });
  }

  #unfollow(id: string): void {
    this.#followed.get(id)?.stop();
    this.#followed.delete(id);
  }

  #hear(record: GenerationRecord, notice: Notice | undefined): void {
    if (notice?.ended !== undefined) {
      const { row, images } = notice.ended;
      return this.#finish(record, fromRow(row, images));
    }
    if (notice === undefined || (notice.state !== undefined && isTerminal(notice.state))) {
      return this.#lookLater(record);
    }
    if (notice.state === "running") record.receive({ type: "started" });
    if (notice.progress !== undefined) record.receive({ type: "progress", progress: notice.progress });
    if (notice.event !== undefined) record.receive(notice.event);
  }

  #finish(record: GenerationRecord, generation: Generation): void {
    record.finish(generation);
    if (this.#followed.get(generation.id)?.record === record) this.#unfollow(generation.id);
  }

  /** Has a record brought up to date, which may take as long as an outage: who waits for this record waits with it. */
  #lookLater(record: GenerationRecord): void {
    const look = this.#keepLooking(record).finally(() => this.#looks.delete(look));
    this.#looks.add(look);
  }

  /** Looks until there is something to be seen, whatever is in the way. */
  async #keepLooking(record: GenerationRecord): Promise<void> {
    const { signal } = this.#closed;
    const { first, longest } = lookPauseMilliseconds;
    for (
      let pause = first;
      !signal.aborted && !isFinal(record.generation);
      pause = Math.min(2 * pause, longest)
    ) {
      try {
        return await this.#look(record);
      } catch (error) {
        if (pause === first) this.#onFault(record.generation.id, error);
        await rest(pause, signal);
      }
    }
  }

  /** Brings a record to where its row is. */
  async #look(record: GenerationRecord): Promise<void> {
    const { id } = record.generation;
    const row: GenerationRow | undefined = await this.#room.store.queries.selectFrom("generations")
      .selectAll()
      .where("id", "=", id).executeTakeFirst();
    if (row === undefined) return;
    if (row.state === "running") record.receive({ type: "started" });
    if (!isTerminal(row.state)) return;
    this.#finish(record, await describe(this.#room, row));
  }
}
