import type { Manifest } from "../models/manifest.ts";
import type { Identity } from "../models/mixed_features.ts";
import { concatRows, type FloatTensor, rowOf, zeros } from "../models/tensor.ts";
import type { TextEncoder } from "../models/text_encoder.ts";
import type { GuidanceRowKind } from "./guidance.ts";
import type { EncodedPrompt } from "./prompt.ts";

/** What steers a denoising, row by row. */
export interface Conditioning extends ConditioningRows {
  /** what each row is told, in the order of `guidanceRows` */
  readonly kinds: readonly GuidanceRowKind[];
}

/** What the UNet is given of one or several conditionings. */
export interface ConditioningRows {
  /** C, [rows, L, d_t] */
  readonly encoder_hidden_states: FloatTensor;
  /** E_r, [rows, M, d_r] */
  readonly identity_tokens: FloatTensor;
  /** what the adapters add to each token's attention logits, [rows, M] */
  readonly identity_token_bias: FloatTensor;
}

/** The words of one row. */
export interface RowPrompt {
  readonly kind: GuidanceRowKind;
  readonly prompt: EncodedPrompt;
}

/** A token of this bias is attended to by nobody, and fp16 can hold it. */
const NOBODY = -10_000;

/**
 * Encodes prompt and identity for the UNet.
 *
 * A row without the person has no identity embedding (its prompt has no identifier), and E_r of zeros or the references'
 * own, as the bundle's `unconditional_identity` says.
 *
 * @param rows the words of each row
 * @param identity E_r and E_c
 * @param textEncoder the bundle's
 * @param unconditionalIdentity the manifest's
 *
 * @example
 * ```ts
 * const conditioning = await encodeConditioning([{ kind: "conditional", prompt }], person, models.textEncoder, "zero");
 * ```
 */
export async function encodeConditioning(
  rows: readonly RowPrompt[],
  identity: Identity,
  textEncoder: TextEncoder,
  unconditionalIdentity: Manifest["unconditional_identity"],
): Promise<Conditioning> {
  const { identity_tokens: tokens, identity_token_bias: bias, identity_embedding: embedding } = identity;
  const inputIds = rows.map(({ prompt }) => prompt.inputIds);
  const length = inputIds[0]?.length ?? 0;
  const input_ids = new BigInt64Array(rows.length * length);
  inputIds.forEach((row, index) => input_ids.set(row, index * length));
  const positions = rows.map(({ prompt }) => prompt.identifierPosition);
  const anonymous = unconditionalIdentity === "zero" ? zeros(tokens.dims) : tokens;
  return {
    kinds: rows.map(({ kind }) => kind),
    encoder_hidden_states: await textEncoder({
      input_ids: { data: input_ids, dims: [rows.length, length] },
      identity_embedding: concatRows(
        positions.map((position) => position === -1 ? zeros(embedding.dims) : embedding),
      ),
      identifier_position: { data: BigInt64Array.from(positions, BigInt), dims: [rows.length] },
    }),
    identity_tokens: concatRows(rows.map(({ kind }) => kind === "conditional" ? tokens : anonymous)),
    identity_token_bias: concatRows(rows.map(() => bias)),
  };
}

/**
 * Some rows of a conditioning.
 *
 * @param conditioning of one picture
 * @param kinds those to take, in the conditioning's order
 * @returns the conditioning itself where these are all of its rows
 * @throws {RangeError} it has no such row
 *
 * @example
 * ```ts
 * selectRows(conditioning, ["unconditional", "conditional"]).kinds.length; // 2
 * ```
 */
export function selectRows(conditioning: Conditioning, kinds: readonly GuidanceRowKind[]): Conditioning {
  if (kinds.join() === conditioning.kinds.join()) return conditioning;
  const take = (tensor: FloatTensor) =>
    concatRows(kinds.map((kind) => rowOf(tensor, conditioning.kinds.indexOf(kind))));
  return {
    kinds,
    encoder_hidden_states: take(conditioning.encoder_hidden_states),
    identity_tokens: take(conditioning.identity_tokens),
    identity_token_bias: take(conditioning.identity_token_bias),
  };
}

/**
 * Conditionings of several pictures for one run of the UNet. People seen in fewer photos have fewer tokens: theirs are
 * filled up with tokens nobody attends to, which changes nothing.
 *
 * @param parts at least one
 * @returns all their rows, in order
 * @throws {RangeError} there are no parts, or they are of different models
 *
 * @example
 * ```ts
 * const { identity_tokens } = stackConditionings(drafts.map(({ conditioning }) => conditioning));
 * ```
 */
export function stackConditionings(parts: readonly ConditioningRows[]): ConditioningRows {
  const most = Math.max(...parts.map(({ identity_tokens }) => identity_tokens.dims[1]!));
  const padded = parts.map((part) => padTokens(part, most));
  return {
    encoder_hidden_states: concatRows(padded.map((part) => part.encoder_hidden_states)),
    identity_tokens: concatRows(padded.map((part) => part.identity_tokens)),
    identity_token_bias: concatRows(padded.map((part) => part.identity_token_bias)),
  };
}

function padTokens(conditioning: ConditioningRows, count: number): ConditioningRows {
  const { identity_tokens: tokens, identity_token_bias: bias } = conditioning;
  const [rows, own, width] = tokens.dims as [number, number, number];
  if (own === count) return conditioning;
  const data = new Float32Array(rows * count * width);
  const biases = new Float32Array(rows * count).fill(NOBODY);
  for (let row = 0; row < rows; row++) {
    data.set(tokens.data.subarray(row * own * width, (row + 1) * own * width), row * count * width);
    biases.set(bias.data.subarray(row * own, (row + 1) * own), row * count);
  }
  return {
    ...conditioning,
    identity_tokens: { data, dims: [rows, count, width] },
    identity_token_bias: { data: biases, dims: [rows, count] },
  };
}
