import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { PeerSettings } from "./diffusers_peer.ts";

/** What every bench against diffusers can be told. */
export interface PeerOptions extends PeerSettings {
  readonly rounds: number;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * Reads `--python FILE`, `--bundle FOLDER`, `--photo FILE`, `--rounds COUNT`, `--threads COUNT`.
 *
 * @param args the command line
 * @param rounds the default
 * @throws {TypeError} for an option that is none of these
 * @throws {RangeError} for a count that is none
 *
 * @example
 * ```ts
 * const { threads } = readPeerOptions(["--threads", "1"], 3);
 * ```
 */
export function readPeerOptions(args: readonly string[], rounds: number): PeerOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      python: { type: "string", default: "python3" },
      bundle: { type: "string", default: here("../../models/default") },
      photo: { type: "string", default: here("../../tests/fixtures/face.png") },
      rounds: { type: "string", default: String(rounds) },
      threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    },
  });
  const count = (text: string) => {
    if (!/^[1-9]\d*$/.test(text)) throw new RangeError(`${text} is not a whole number above 0`);
    return Number(text);
  };
  return { ...values, rounds: count(values.rounds), threads: count(values.threads) };
}

/**
 * The middle of some numbers.
 *
 * @example
 * ```ts
 * median([3, 1, 2]); // 2
 * ```
 */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}
