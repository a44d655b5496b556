import type { Manifest } from "../models/manifest.ts";
import type { Identity } from "../models/mixed_features.ts";
import { concatRows, type FloatTensor, RowBuffer, rowOf, zeros } from "../models/tensor.ts";
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

/** A row of the UNet's batch, as one of a picture's conditioning. */
export interface ConditioningRow {
  readonly conditioning: Conditioning;
  readonly kind: GuidanceRowKind;
}

/**
 * Lays rows of several pictures side by side, run after run of the UNet. People seen in fewer photos have fewer tokens:
 * theirs are filled up with tokens nobody attends to, which changes nothing.
 *
 * A row that is where it was in the run before is not written again. Nothing is left of rows that are not in the run.
 *
 * @example
 * ```ts
 * const { identity_tokens } = new ConditioningStack().stack([{ conditioning, kind: "conditional" }]);
 * ```
 */
export class ConditioningStack {
  readonly #words = new RowBuffer();
  readonly #tokens = new RowBuffer();
  readonly #bias = new RowBuffer();
  #rows: readonly ConditioningRow[] = [];

  /**
   * Lays out the rows of one run.
   *
   * @param rows at least one, all of one model
   * @returns all of them, in order; good until the next run
   * @throws {RangeError} there are no rows, a conditioning has no such row, or they are of different models
   */
  stack(rows: readonly ConditioningRow[]): ConditioningRows {
    const kept = this.#reserve(rows) ? this.#rows : [];
    // where a row cannot be written, none counts as kept
    this.#rows = [];
    for (const [index, row] of rows.entries()) {
      const before = kept[index];
      if (row.conditioning !== before?.conditioning || row.kind !== before.kind) this.#write(index, row);
    }
    this.#rows = rows;
    return {
      encoder_hidden_states: this.#words.first(rows.length),
      identity_tokens: this.#tokens.first(rows.length),
      identity_token_bias: this.#bias.first(rows.length),
    };
  }

  /** Whether the rows of the run before are still there. */
  #reserve(rows: readonly ConditioningRow[]): boolean {
    const [first] = rows;
    if (first === undefined) throw new RangeError("no rows to stack");
    const { encoder_hidden_states: words, identity_tokens: tokens } = first.conditioning;
    const most = Math.max(...rows.map(({ conditioning }) => conditioning.identity_tokens.dims[1]!));
    return [
      this.#words.reserve(words.dims.slice(1), rows.length),
      this.#tokens.reserve([most, ...tokens.dims.slice(2)], rows.length),
      this.#bias.reserve([most], rows.length),
    ].every((kept) => kept);
  }

  #write(index: number, { conditioning, kind }: ConditioningRow): void {
    const row = conditioning.kinds.indexOf(kind);
    this.#words.write(index, rowOf(conditioning.encoder_hidden_states, row).data);
    this.#tokens.write(index, rowOf(conditioning.identity_tokens, row).data, 0);
    this.#bias.write(index, rowOf(conditioning.identity_token_bias, row).data, NOBODY);
  }
}
