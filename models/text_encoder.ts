import { loadGraph } from "./graph.ts";
import type { Bundle } from "./manifest.ts";
import type { SessionSettings } from "./sessions.ts";
import type { FloatTensor, IntegerTensor } from "./tensor.ts";

/** Tokenised prompts, a row each. */
export interface TextInput {
  /** [b, L], padded to the tokenizer's length */
  readonly input_ids: IntegerTensor;
  /** E_c, [b, d_t]; ignored where `identifier_position` is -1 */
  readonly identity_embedding: FloatTensor;
  /** [b]: where E_c replaces the token embedding; -1 for nowhere */
  readonly identifier_position: IntegerTensor;
}

/**
 * Encodes prompts.
 *
 * @returns C, [b, L, d_t]
 */
export type TextEncoder = (input: TextInput) => Promise<FloatTensor>;

/**
 * Loads a bundle's text encoder.
 *
 * @throws {BundleError} see `loadGraph`
 *
 * @example
 * ```ts
 * const hiddenStates = await (await loadTextEncoder(bundle, { provider: "cpu", threads: 2 }))(input);
 * ```
 */
export async function loadTextEncoder(bundle: Bundle, settings: SessionSettings): Promise<TextEncoder> {
  const run = await loadGraph(bundle, "text_encoder", settings, {
    inputs: { input_ids: ["b", "L"], identity_embedding: ["b", "d_t"], identifier_position: ["b"] },
    outputs: { hidden_states: ["b", "L", "d_t"] },
  });
  return async (input) => (await run({ ...input })).hidden_states;
}
