/**
 * Normal noise that is, number for number, what `torch.randn` draws on the CPU, so that a seed gives the picture
 * diffusers would give.
 */

const STATE_SIZE = 624;
const SHIFT_SIZE = 397;
/** torch draws tensors of 16 numbers and more in blocks of 16, smaller ones number by number. */
const BLOCK = 16;
const MAX_SEED = 2n ** 64n - 1n;
/** The 2^24 angles of a turn lie in so many sectors, of whose middles cosine and sine are at hand. */
const SECTORS = 2 ** 8;
const ANGLES_A_SECTOR = 2 ** 24 / SECTORS;
const MIDDLES = Float64Array.from({ length: SECTORS }, (_, sector) => 2 * Math.PI * (sector + 0.5) / SECTORS);
const COSINES = MIDDLES.map(Math.cos);
const SINES = MIDDLES.map(Math.sin);

/**
 * The stream of random numbers behind `torch.Generator("cpu").manual_seed(seed)`: a Mersenne Twister (mt19937,
 * Matsumoto & Nishimura 1998) and torch's two ways to make normal numbers of its words.
 *
 * Several tensors drawn from one generator continue its stream, as in torch. Values agree with torch to a few units
 * in the last place (torch takes logarithm and cosine in float32, this in float64, both to its last digits).
 *
 * @example
 * ```ts
 * const latent = new TorchGenerator(42).randn(4 * 64 * 64); // torch.randn(1, 4, 64, 64, generator=...).flatten()
 * ```
 */
export class TorchGenerator {
  readonly #state = new Uint32Array(STATE_SIZE);
  #position = STATE_SIZE;
  /** second value of the last pair, kept for the next small tensor as torch keeps it */
  #spareNormal: number | undefined;

  /**
   * @param seed whole number, 0 to 2^64 - 1 (a bigint above 2^53). torch's CPU engine uses the low 32 bits alone, so
   * seeds that differ by a multiple of 2^32 give the same noise there and here
   * @throws {RangeError} when the seed is not such a number
   */
  constructor(seed: number | bigint) {
    if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
      throw new RangeError(`seed ${seed} is not a whole number below 2^53; pass a bigint for larger ones`);
    }
    const wide = BigInt(seed);
    if (wide < 0n || wide > MAX_SEED) throw new RangeError(`seed ${wide} is not in 0..2^64-1`);
    this.#state[0] = Number(wide & 0xffffffffn);
    for (let i = 1; i < STATE_SIZE; i++) {
      const previous = this.#state[i - 1]!;
      this.#state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /**
   * Draws `torch.randn(n, generator=...)`.
   *
   * @param n how many numbers, 0 or more; a tensor's shape does not matter, only its size
   * @returns n float32 numbers of mean 0 and variance 1
   * @throws {RangeError} when n is not a whole number of 0 or more
   */
  randn(n: number): Float32Array<ArrayBuffer> {
    if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`cannot draw ${n} numbers`);
    const values = new Float32Array(n);
    if (n < BLOCK) {
      for (let i = 0; i < n; i++) values[i] = this.#nextNormal();
      return values;
    }
    this.#fillWithWords(values, 0);
    for (let start = 0; start + BLOCK <= n; start += BLOCK) transformBlock(values, start);
    if (n % BLOCK !== 0) {
      const start = n - BLOCK;
      this.#fillWithWords(values, start);
      transformBlock(values, start);
    }
    return values;
  }

  /**
   * Leaves the stream where {@linkcode randn} would, for who has no use for the numbers.
   *
   * @param n how many numbers, as there
   * @throws {RangeError} when n is not a whole number of 0 or more
   */
  skip(n: number): void {
    if (!(n >= BLOCK) || !Number.isSafeInteger(n)) return void this.randn(n);
    let position = this.#position + (n % BLOCK === 0 ? n : n + BLOCK);
    for (; position > STATE_SIZE; position -= STATE_SIZE) this.#twist();
    this.#position = position;
  }

  /** torch's scalar path: Box-Muller in float64 over two 53-bit uniforms, one pair at a time. */
  #nextNormal(): number {
    if (this.#spareNormal !== undefined) {
      const spare = this.#spareNormal;
      this.#spareNormal = undefined;
      return spare;
    }
    const angle = 2 * Math.PI * this.#nextUniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#nextUniform53()));
    this.#spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Draws a word for every number from `start` on, and keeps its low 24 bits: a whole number that float32 holds. */
  #fillWithWords(values: Float32Array, start: number): void {
    const state = this.#state;
    let position = this.#position;
    for (let i = start; i < values.length; i++) {
      if (position === STATE_SIZE) {
        this.#twist();
        position = 0;
      }
      values[i] = temper(state[position++]!) & 0xffffff;
    }
    this.#position = position;
  }

  #nextUniform53(): number {
    const high = this.#nextWord() & 0x1fffff;
    return (high * 2 ** 32 + this.#nextWord()) / 2 ** 53;
  }

  #nextWord(): number {
    if (this.#position === STATE_SIZE) this.#twist();
    return temper(this.#state[this.#position++]!) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < STATE_SIZE; i++) {
      const next = state[i + 1 < STATE_SIZE ? i + 1 : 0]!;
      const mixed = (state[i]! & 0x80000000) | (next & 0x7fffffff);
      const twisted = (mixed >>> 1) ^ (-(mixed & 1) & 0x9908b0df);
      state[i] = state[i < STATE_SIZE - SHIFT_SIZE ? i + SHIFT_SIZE : i + SHIFT_SIZE - STATE_SIZE]! ^ twisted;
    }
    this.#position = 0;
  }
}

/** The stream's word of a word of the state, as a signed number. */
function temper(word: number): number {
  word ^= word >>> 11;
  word ^= (word << 7) & 0x9d2c5680;
  word ^= (word << 15) & 0xefc60000;
  return word ^ (word >>> 18);
}

/**
 * Box-Muller over 16 uniforms in place, each a whole number of 2^24ths: numbers j and j + 8 of the block make one pair.
 *
 * An angle is that of its sector's middle and a small one, whose Taylor series need few terms: as exact as its own cosine
 * and sine, and several times faster.
 */
function transformBlock(values: Float32Array, start: number): void {
  const half = BLOCK / 2;
  for (let j = start; j < start + half; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[j]! / 2 ** 24));
    const angle = values[j + half]!;
    const sector = Math.floor(angle / ANGLES_A_SECTOR);
    const small = 2 * Math.PI * (angle / ANGLES_A_SECTOR - sector - 0.5) / SECTORS;
    const square = small * small;
    const cosine = 1 - square * (1 / 2 - square * (1 / 24 - square / 720));
    const sine = small * (1 - square * (1 / 6 - square / 120));
    values[j] = radius * (COSINES[sector]! * cosine - SINES[sector]! * sine);
    values[j + half] = radius * (SINES[sector]! * cosine + COSINES[sector]! * sine);
  }
}
