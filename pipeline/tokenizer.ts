/** The CLIP tokenizer of a bundle: text to ids, exactly as transformers' `CLIPTokenizer` gives them. */

import { Tokenizer } from "@huggingface/tokenizers";
import { join } from "node:path";
import { z } from "zod";
import { readBundleFile } from "../models/read_bundle_file.ts";

/** A special token in a `tokenizer_config.json`: its text, or an added token that holds it. */
const specialTokenSchema = z.union([
  z.string(),
  z.object({ content: z.string() }).transform((token) => token.content),
]);

/**
 * What is read of a `tokenizer_config.json`. transformers writes a `model_max_length` of 1e30 when nobody set one: a
 * text encoder has a fixed length, so that is refused.
 */
const tokenizerConfigSchema = z.looseObject({
  model_max_length: z.int().min(4).max(4096),
  pad_token: specialTokenSchema.default("<|endoftext|>"),
});

/** Turns text into token ids. */
export interface TextTokenizer {
  /** L, the length the text encoder was made for, start and end tokens included */
  readonly maxLength: number;
  /** id that fills a row up to L */
  readonly padId: number;
  /**
   * @param text any text; lone surrogates count as U+FFFD
   * @returns ids from the start token to the end token, of any length: neither cut nor padded
   */
  encode(text: string): readonly number[];
  /** The id of a token of the vocabulary, end-of-word mark included (`sks</w>`), or undefined. */
  idOf(token: string): number | undefined;
}

/**
 * Loads the tokenizer of a bundle.
 *
 * @param folder holds `tokenizer.json` and `tokenizer_config.json`
 * @throws {BundleError} `file_missing` or `file_invalid`, which of the two it is stands in the message
 */
export async function loadTokenizer(folder: string): Promise<TextTokenizer> {
  const config = await readBundleFile(
    join(folder, "tokenizer_config.json"),
    (text) => tokenizerConfigSchema.parse(JSON.parse(text)),
  );
  return await readBundleFile(
    join(folder, "tokenizer.json"),
    (text) => createTokenizer(JSON.parse(text), config),
  );
}

/**
 * Makes a tokenizer of the two files' contents.
 *
 * @param tokenizerJson contents of `tokenizer.json`
 * @param tokenizerConfig contents of `tokenizer_config.json`
 * @throws {Error} when the contents are not a tokenizer's, or the padding token is not in the vocabulary
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig: unknown): TextTokenizer {
  const config = tokenizerConfigSchema.parse(tokenizerConfig);
  const tokenizer = new Tokenizer(splitAsUnicode(z.looseObject({}).parse(tokenizerJson)), config);
  const padId = tokenizer.token_to_id(config.pad_token);
  if (padId === undefined) throw new Error(`the padding token ${config.pad_token} is not in the vocabulary`);
  return {
    maxLength: config.model_max_length,
    padId,
    encode: (text) => tokenizer.encode(settleCase(text.toWellFormed())).ids,
    idOf: (token) => tokenizer.token_to_id(token),
  };
}

/**
 * Lowers the one letter that JavaScript lowers by its neighbours: a capital sigma at the end of a word becomes ς in
 * `toLowerCase` (Unicode's Final_Sigma), but always σ in transformers, which lowers code point by code point.
 */
function settleCase(text: string): string {
  return text.replaceAll("Σ", "σ");
}

/** The part of a `tokenizer.json` that {@linkcode splitAsUnicode} changes. */
const splitThenBytesSchema = z.looseObject({
  pre_tokenizer: z.looseObject({
    type: z.literal("Sequence"),
    pretokenizers: z.tuple([
      z.looseObject({ type: z.literal("Split") }),
      z.looseObject({
        type: z.literal("ByteLevel"),
        add_prefix_space: z.literal(false),
        use_regex: z.literal(true).default(true),
      }),
    ]),
  }),
});

/** GPT-2's pattern, which the byte-level step applies to the words that CLIP's own pattern leaves. */
const BYTE_LEVEL_PATTERN = String
  .raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/**
 * Takes the byte-level step's splitting out into a step of its own.
 *
 * The library has that pattern as a JavaScript one, whose `\s` takes in U+FEFF. That is no white space to
 * transformers, and words of marks would fall apart there. Patterns of `Split` steps the library translates right.
 */
function splitAsUnicode(tokenizerJson: Record<string, unknown>): Record<string, unknown> {
  const clip = splitThenBytesSchema.safeParse(tokenizerJson);
  if (!clip.success) return tokenizerJson;
  const { pre_tokenizer: sequence } = clip.data;
  const [split, bytes] = sequence.pretokenizers;
  const again = {
    type: "Split",
    pattern: { Regex: BYTE_LEVEL_PATTERN },
    behavior: "Isolated",
    invert: false,
  };
  return {
    ...tokenizerJson,
    pre_tokenizer: { ...sequence, pretokenizers: [split, again, { ...bytes, use_regex: false }] },
  };
}
