/**
 * News of generations: told at once inside this process, and by `pg_notify` to every other instance. A notice is a hint
 * to look at the row, which alone is true.
 */

import { type RawBuilder, sql } from "kysely";
import type { GeneratedImage, GenerateEvent, GenerateProgress } from "../pipeline/protocol.ts";
import { type GenerationState, terminalStates } from "../store/schema.ts";
import type { Queue } from "../store/queue.ts";
import type { Queries } from "../store/store.ts";
import type { GenerationRow } from "./settle.ts";

const channel = "generations";

/** One piece of news. */
export interface Notice {
  readonly id: string;
  /** absent when only the progress changed */
  readonly state?: GenerationState;
  readonly progress?: GenerateProgress;
  /** told in the instance that runs it alone: everything, previews and pictures included */
  readonly event?: GenerateEvent;
  /** told in the instance that ended it alone: what the others read from the database */
  readonly ended?: { readonly row: GenerationRow; readonly images: readonly GeneratedImage[] };
}

/** Takes news of one generation; `undefined` means that something may have been missed. */
export type NoticeListener = (notice: Notice | undefined) => void;

/** News of this instance and all others; `await using` stops listening. */
export interface Notices extends AsyncDisposable {
  /** Tells the other instances, should the transaction commit; `tellHere` is for afterwards. */
  announce(transaction: Queries, notice: Notice): Promise<void>;
  /** The same as an expression of a statement that returns rows: told for every row, if it commits. */
  announcement(notice: Notice): RawBuilder<unknown>;
  /** Tells whoever listens in this process. */
  tellHere(notice: Notice): void;
  /** Has whoever listens in this process look at the row: something of this generation may have been missed. */
  lookHere(id: string): void;
  /** @returns stops listening */
  subscribe(id: string, listener: NoticeListener): () => void;
}

/** Anybody with a connection to the database may notify: what is no notice of ours is not heard. */
function readNotice(payload: string): { readonly from: unknown; readonly notice: Notice } | undefined {
  try {
    const { from, ...notice }: Notice & { from: unknown } = JSON.parse(payload);
    return typeof notice.id === "string" ? { from, notice } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Starts listening.
 *
 * @param queue holds the connection that listens
 * @param instance names this process; its own announcements are not heard twice
 * @param alone true where there is no other instance to tell
 * @returns the news
 */
export async function openNotices(queue: Queue, instance: string, alone: boolean): Promise<Notices> {
  const listeners = new Map<string, Set<NoticeListener>>();
  const tellAll = (id: string, notice: Notice | undefined) => {
    for (const listener of [...listeners.get(id) ?? []]) listener(notice);
  };
  const tell = (notice: Notice) => tellAll(notice.id, notice);
  const subscription = await queue.listen(channel, (payload) => {
    const heard = readNotice(payload);
    if (heard !== undefined && heard.from !== instance) tell(heard.notice);
  }, () => {
    for (const listener of [...listeners.values()].flatMap((set) => [...set])) listener(undefined);
  });
  const announcement = (notice: Notice) =>
    alone ? sql`null` : sql`pg_notify(${channel}, ${JSON.stringify({ from: instance, ...notice })})`;
  return {
    async announce(transaction, notice) {
      if (!alone) await sql`select ${announcement(notice)}`.execute(transaction);
    },
    announcement,
    tellHere: tell,
    lookHere: (id) => tellAll(id, undefined),
    subscribe(id, listener) {
      const set = listeners.get(id) ?? new Set();
      listeners.set(id, set.add(listener));
      return () => {
        set.delete(listener);
        if (set.size === 0 && listeners.get(id) === set) listeners.delete(id);
      };
    },
    [Symbol.asyncDispose]: () => subscription[Symbol.asyncDispose](),
  };
}

/**
 * Tells whether a generation is over.
 *
 * @param state its state
 * @returns true when no other state follows
 */
export function isTerminal(state: GenerationState): state is typeof terminalStates[number] {
  return (terminalStates as readonly string[]).includes(state);
}
