/** From a caller's words to the rows of ids the text encoder reads. */

import type { Manifest } from "../models/manifest.ts";
import { PipelineError } from "./protocol.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** One row for the text encoder. */
export interface EncodedPrompt {
  /** [L] */
  readonly inputIds: BigInt64Array<ArrayBuffer>;
  /** index of the identifier's token, whose embedding the identity replaces; -1 for none */
  readonly identifierPosition: number;
  /** tokens used, start and end included, padding not */
  readonly tokens: number;
}

/** What to encode beside the prompt; both come from the bundle's manifest or the request. */
export interface IdentifierWords {
  /** what the person is, for example `woman` */
  readonly classNoun: string;
  /** the word that stands for the person, one token of the vocabulary, for example `sks` */
  readonly identifier: string;
}

/**
 * The prompt with the identifier appended, as the paper does (IDAdapter, section 3.2): `a photo, woman is sks`.
 *
 * @param prompt the caller's words; surrounding white space is dropped
 * @throws {PipelineError} with code `prompt_empty` when nothing is left
 */
export function composePrompt(prompt: string, classNoun: string, identifier: string): string {
  const words = prompt.trim();
  if (words === "") {
    throw new PipelineError("prompt_empty", "The prompt is empty; say what the portrait should show.");
  }
  return `${words}, ${classNoun} is ${identifier}`;
}

/**
 * Composes and encodes the prompt of the conditional branch.
 *
 * The identity goes to the last identifier of the row: a caller may write the same word in the prompt.
 *
 * @throws {PipelineError} with code `prompt_empty`, or `prompt_too_long` with `{ tokens, limit }` when prompt and
 * identifier do not fit; a prompt is never cut
 * @throws {Error} when the identifier is not one token of the vocabulary, which is the bundle's fault
 */
export function encodePrompt(
  tokenizer: TextTokenizer,
  prompt: string,
  words: IdentifierWords,
): EncodedPrompt {
  const identifierId = tokenizer.idOf(`${words.identifier}</w>`);
  if (identifierId === undefined) {
    throw new Error(`identifier ${words.identifier} is not one token of the vocabulary`);
  }
  const ids = tokenizer.encode(composePrompt(prompt, words.classNoun, words.identifier));
  const identifierPosition = ids.lastIndexOf(identifierId);
  if (identifierPosition === -1) {
    throw new Error(`identifier ${words.identifier} is not encoded as one token`);
  }
  return { inputIds: padRow(tokenizer, ids, "prompt"), identifierPosition, tokens: ids.length };
}

/**
 * Encodes words without identifier, for guidance's rows without the person: the negative prompt, and the prompt alone.
 *
 * @param words may be empty; surrounding white space is dropped
 * @param what they are, for the message
 * @throws {PipelineError} with code `prompt_too_long` and `{ tokens, limit }` when they do not fit
 */
export function encodeWords(tokenizer: TextTokenizer, words: string, what = "prompt"): EncodedPrompt {
  const ids = tokenizer.encode(words.trim());
  return { inputIds: padRow(tokenizer, ids, what), identifierPosition: -1, tokens: ids.length };
}

function padRow(tokenizer: TextTokenizer, ids: readonly number[], what: string): BigInt64Array<ArrayBuffer> {
  const limit = tokenizer.maxLength;
  if (ids.length > limit) {
    throw new PipelineError(
      "prompt_too_long",
      `The ${what} takes ${ids.length} tokens and the model reads ${limit}; shorten it.`,
      { tokens: ids.length, limit },
    );
  }
  const row = new BigInt64Array(limit).fill(BigInt(tokenizer.padId));
  ids.forEach((id, i) => row[i] = BigInt(id));
  return row;
}

/**
 * Where a prompt says that the person looks: to the picture's left or right, or in another way; undefined where it does not.
 *
 * @param prompt the caller's
 * @param words the manifest's `view_words`
 *
 * @example
 * ```ts
 * const words = { left: ["left"], right: ["right"], other: ["facing"], sided: ["cheek"] };
 * toldView("a woman, Facing left", words); // "left"
 * toldView("a mole on her left cheek", words); // undefined
 * ```
 */
export function toldView(
  prompt: string,
  words: Manifest["view_words"],
): "left" | "right" | "other" | undefined {
  const told = wordsOf(prompt).filter((_, index, all) => !words.sided.includes(all[index + 1] ?? ""));
  const tells = (view: "left" | "right" | "other") => words[view].some((word) => told.includes(word));
  const [left, right] = [tells("left"), tells("right")];
  if (left !== right) return left ? "left" : "right";
  return left || tells("other") ? "other" : undefined;
}

/**
 * Which places of the references a prompt tells of.
 *
 * @param prompt the caller's
 * @param places the manifest's `quiet_patches`
 * @returns those that are to count less
 *
 * @example
 * ```ts
 * const mouth = { words: ["sad"], patches: [50], bias: -4 };
 * toldPlaces("a woman is Sad", [mouth]); // [mouth]
 * ```
 */
export function toldPlaces(prompt: string, places: Manifest["quiet_patches"]): Manifest["quiet_patches"] {
  const told = new Set(wordsOf(prompt));
  return places.filter(({ words }) => words.some((word) => told.has(word)));
}

/**
 * What a portrait is led away from where the caller does not say: the model's negative prompt, which is for photos, and
 * nothing where a drawing is asked for.
 *
 * @param prompt the caller's
 * @param manifest of the model
 *
 * @example
 * ```ts
 * const manifest = { defaults: { negative_prompt: "a cartoon" }, drawing_words: ["sketch"] };
 * defaultNegativePrompt("a woman", manifest); // "a cartoon"
 * defaultNegativePrompt("a sketch of a woman", manifest); // ""
 * ```
 */
export function defaultNegativePrompt(
  prompt: string,
  { defaults, drawing_words }: {
    readonly defaults: Pick<Manifest["defaults"], "negative_prompt">;
    readonly drawing_words: Manifest["drawing_words"];
  },
): string {
  const told = new Set(wordsOf(prompt));
  return drawing_words.some((word) => told.has(word)) ? "" : defaults.negative_prompt;
}

/** In small letters, in their order. */
function wordsOf(prompt: string): string[] {
  return prompt.toLowerCase().match(/\p{L}+/gu) ?? [];
}
