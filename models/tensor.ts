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

/**
 * Rows of one shape that are written one by one, in memory that is used again: fresh memory of some megabytes takes the
 * system as long to give as it takes to write.
 *
 * @example
 * ```ts
 * const rows = new RowBuffer();
 * rows.reserve([4, 8], 3);
 * rows.write(0, new Float32Array(32));
 * rows.first(1).dims; // [1, 4, 8]
 * ```
 */
export class RowBuffer {
  #data = new Float32Array(0);
  #rowDims: readonly number[] = [];
  #rowLength = 0;
  /** rows that may hold something */
  #written = 0;

  /**
   * Makes room.
   *
   * @param rowDims shape of a row
   * @param rows how many are to be written
   * @returns whether the rows are still there: they are lost where their shape is another, or the room was too small
   */
  reserve(rowDims: readonly number[], rows: number): boolean {
    const same = rowDims.join() === this.#rowDims.join();
    if (same && rows * this.#rowLength <= this.#data.length) return true;
    this.#rowDims = rowDims;
    this.#rowLength = rowDims.reduce((product, side) => product * side, 1);
    // more than asked for, since rows tend to come one by one
    this.#data = new Float32Array(2 ** Math.ceil(Math.log2(rows)) * this.#rowLength);
    this.#written = 0;
    return false;
  }

  /**
   * Writes one row.
   *
   * @param index of the row, less than were reserved
   * @param values as many as a row has, or fewer where there is a filler
   * @param filler what the rest of the row is filled with
   * @throws {RangeError} the values do not fit
   */
  write(index: number, values: Float32Array, filler?: number): void {
    const rest = this.#rowLength - values.length;
    if (rest < 0 || (rest > 0 && filler === undefined)) {
      throw new RangeError(`${values.length} numbers for a row of [${this.#rowDims}]`);
    }
    const start = index * this.#rowLength;
    this.#data.set(values, start);
    this.#data.fill(filler ?? 0, start + values.length, start + this.#rowLength);
    this.#written = Math.max(this.#written, index + 1);
  }

  /**
   * The first rows as a tensor. Nothing is left of those after them.
   *
   * @param count how many
   * @returns [count, ...], which shares the memory: good until a row is written again
   */
  first(count: number): FloatTensor {
    const end = count * this.#rowLength;
    this.#data.fill(0, end, this.#written * this.#rowLength);
    this.#written = count;
    return { data: this.#data.subarray(0, end), dims: [count, ...this.#rowDims] };
  }
}
