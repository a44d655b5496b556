import type { Manifest } from "../models/manifest.ts";
import type { Identity } from "../models/mixed_features.ts";
import { concatRows, type FloatTensor, zeros } from "../models/tensor.ts";
import type { TextEncoder } from "../models/text_encoder.ts";
import type { EncodedPrompt } from "./prompt.ts";

/** What steers a denoising: a row without guidance, two with it (row 0 unconditional, row 1 conditional). */
export interface Conditioning {
  /** C, [rows, L, d_t] */
  readonly encoder_hidden_states: FloatTensor;
  /** E_r, [rows, M, d_r] */
  readonly identity_tokens: FloatTensor;
  /** what the adapters add to each token's attention logits, [rows, M] */
  readonly identity_token_bias: FloatTensor;
}

/**
 * Encodes prompt and identity for the UNet.
 *
 * The unconditional row has the negative prompt, no identifier (position -1, its identity embedding zero), and E_r of
 * zeros or the references' own, as the bundle's `unconditional_identity` says.
 *
 * @param prompt the conditional row
 * @param negativePrompt the unconditional row; null when guidance is off
 * @param identity E_r and E_c
 * @param textEncoder the bundle's
 * @param unconditionalIdentity the manifest's
 *
 * @example
 * ```ts
 * const conditioning = await encodeConditioning(prompt, null, person, models.textEncoder, "zero");
 * ```
 */
export async function encodeConditioning(
  prompt: EncodedPrompt,
  negativePrompt: EncodedPrompt | null,
  identity: Identity,
  textEncoder: TextEncoder,
  unconditionalIdentity: Manifest["unconditional_identity"],
): Promise<Conditioning> {
  const { identity_tokens: tokens, identity_token_bias: bias, identity_embedding: embedding } = identity;
  const prompts = negativePrompt === null ? [prompt] : [negativePrompt, prompt];
  const length = prompt.inputIds.length;
  const input_ids = new BigInt64Array(prompts.length * length);
  prompts.forEach((row, index) => input_ids.set(row.inputIds, index * length));
  const encoder_hidden_states = await textEncoder({
    input_ids: { data: input_ids, dims: [prompts.length, length] },
    identity_embedding: negativePrompt === null ? embedding : concatRows([zeros(embedding.dims), embedding]),
    identifier_position: {
      data: BigInt64Array.from(prompts, (row) => BigInt(row.identifierPosition)),
      dims: [prompts.length],
    },
  });
  if (negativePrompt === null) {
    return { encoder_hidden_states, identity_tokens: tokens, identity_token_bias: bias };
  }
  const unconditional = unconditionalIdentity === "zero" ? zeros(tokens.dims) : tokens;
  return {
    encoder_hidden_states,
    identity_tokens: concatRows([unconditional, tokens]),
    identity_token_bias: concatRows([bias, bias]),
  };
}
