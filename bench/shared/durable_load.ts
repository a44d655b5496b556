/** Clients that keep asking, whatever happens to the service, each request under a key of its own. */

import type { ServiceInstance } from "./service_instance.ts";

/** What the clients saw so far. */
export interface Load {
  /** ids of generations they were given */
  readonly accepted: ReadonlySet<string>;
  /** answers by status; 0 for none */
  readonly answers: Readonly<Record<number, number>>;
  /** problems they were answered with, by code */
  readonly problems: Readonly<Record<string, number>>;
  /** Stops asking, and resolves when every request has its answer. */
  stop(): Promise<void>;
}

/**
 * Starts clients. A request without an answer, or with a 503 or 429, is sent again with the same key, to whichever
 * instance comes next, until it is taken. A 500 is an end, too: a generation whose process was killed three times.
 *
 * @param instances where to send
 * @param token of the account
 * @param body of every request, JSON
 * @param clients how many ask at a time
 * @returns what they see
 */
export function startLoad(
  instances: readonly ServiceInstance[],
  token: string,
  body: string,
  clients: number,
): Load {
  const accepted = new Set<string>();
  const answers: Record<number, number> = {};
  const problems: Record<string, number> = {};
  let stopping = false;
  let turn = 0;
  const ask = async (key: string): Promise<void> => {
    while (true) {
      const instance = instances[turn++ % instances.length]!;
      let status = 0;
      try {
        const response = await fetch(`${instance.address}/v1/generations`, {
          method: "POST",
          headers: {
            Authorization: `Bearer ${token}`,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            Prefer: "respond-async, wait=5",
          },
          body,
          signal: AbortSignal.timeout(20_000),
        });
        status = response.status;
        const answer = await response.json();
        if (status === 200 || status === 202) accepted.add(answer.id);
        else problems[answer.code] = (problems[answer.code] ?? 0) + 1;
      } catch {
        // killed in the middle: the same key asks again
      }
      answers[status] = (answers[status] ?? 0) + 1;
      if (status === 200 || status === 202 || status === 500) return;
      if (status !== 0 && status !== 503 && status !== 429) {
        throw new Error(`a request was refused: ${status}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const running = Array.from({ length: clients }, async () => {
    while (!stopping) await ask(crypto.randomUUID());
  });
  return {
    accepted,
    answers,
    problems,
    async stop() {
      stopping = true;
      await Promise.all(running);
    },
  };
}
