/** Numbers with a shape, in row-major order; `data.length` is the product of `dims`. */
export interface FloatTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/** Whole numbers with a shape, in row-major order: token ids and positions. */
export interface IntegerTensor {
  readonly data: BigInt64Array;
  readonly dims: readonly number[];
}

/**
 * A tensor of zeros.
 *
 * @param dims its shape
 *
 * @example
 * ```ts
 * zeros([1, 3, 96, 96]).data.length; // 27648
 * ```
 */
export function zeros(dims: readonly number[]): FloatTensor {
  return { data: new Float32Array(dims.reduce((product, side) => product * side, 1)), dims };
}

/**
 * Tensors of one shape laid after one another along the first axis.
 *
 * @param parts at least one tensor; all but the first axis must agree
 * @returns [sum of first axes, ...rest]
 * @throws {RangeError} there are no parts, or their shapes differ
 *
 * @example
 * ```ts
 * concatRows([zeros([1, 4]), zeros([2, 4])]).dims; // [3, 4]
 * ```
 */
export function concatRows(parts: readonly FloatTensor[]): FloatTensor {
  const [first] = parts;
  if (first === undefined) throw new RangeError("no tensors to concatenate");
  const rest = first.dims.slice(1);
  const data = new Float32Array(parts.reduce((length, part) => length + part.data.length, 0));
  let offset = 0;
  let rows = 0;
  for (const part of parts) {
    if (part.dims.slice(1).join() !== rest.join()) {
      throw new RangeError(`shapes [${first.dims}] and [${part.dims}] differ beyond the first axis`);
    }
    data.set(part.data, offset);
    offset += part.data.length;
    rows += part.dims[0] ?? 1;
  }
  return { data, dims: [rows, ...rest] };
}

/**
 * One tensor repeated along its first axis: [k, ...rest] becomes [k * count, ...rest].
 *
 * @param tensor what to repeat
 * @param count how often, 1 or more
 *
 * @example
 * ```ts
 * repeatRows(zeros([1, 145, 256]), 3).dims; // [3, 145, 256]
 * ```
 */
export function repeatRows(tensor: FloatTensor, count: number): FloatTensor {
  return concatRows(Array.from({ length: count }, () => tensor));
}

/**
 * One row of a tensor, sharing its memory: [k, ...rest] becomes [1, ...rest].
 *
 * @param tensor with at least one axis
 * @param index 0 to k - 1
 * @throws {RangeError} there is no such row
 *
 * @example
 * ```ts
 * rowOf(zeros([4, 8, 16, 16]), 2).dims; // [1, 8, 16, 16]
 * ```
 */
export function rowOf(tensor: FloatTensor, index: number): FloatTensor {
  const rows = tensor.dims[0] ?? 0;
  if (!Number.isInteger(index) || index < 0 || index >= rows) {
    throw new RangeError(`row ${index} of a tensor with ${rows} rows`);
  }
  const length = tensor.data.length / rows;
  return {
    data: tensor.data.subarray(index * length, (index + 1) * length),
    dims: [1, ...tensor.dims.slice(1)],
  };
}

/**
 * Some rows of a tensor, copied: [k, ...rest] becomes [end - start, ...rest].
 *
 * @param tensor with at least one axis
 * @param start first row, 0 or more
 * @param end row after the last one, at most k
 *
 * @example
 * ```ts
 * sliceRows(zeros([4, 8]), 1, 3).dims; // [2, 8]
 * ```
 */
export function sliceRows(tensor: FloatTensor, start: number, end: number): FloatTensor {
  const length = tensor.data.length / (tensor.dims[0] ?? 1);
  return {
    data: tensor.data.slice(start * length, end * length),
    dims: [end - start, ...tensor.dims.slice(1)],
  };
}
