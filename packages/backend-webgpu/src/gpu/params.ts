import { slotBytes } from './stream.ts';

/** Words of a dispatch's uniform parameters, written in the order of the kernel's `Params` struct. One at a time: `start` begins anew. */
export class Params {
  readonly words = new Uint32Array(slotBytes / 4);
  readonly #floats = new Float32Array(this.words.buffer);
  #at = 0;

  start(): this {
    this.#at = 0;
    return this;
  }

  /** Unsigned or negative integers, by their low 32 bits. */
  u32(...values: readonly number[]): this {
    for (const v of values) this.words[this.#at++] = v;
    return this;
  }

  f32(...values: readonly number[]): this {
    for (const v of values) this.#floats[this.#at++] = v;
    return this;
  }

  /** Goes on to a multiple of four words, where the struct has a vector. */
  align(): this {
    this.#at = (this.#at + 3) & ~3;
    return this;
  }

  /** The words so far. The next `start` writes over them. */
  done(): Uint32Array {
    if (this.#at > this.words.length)
      throw new RangeError(`parameters take ${this.#at} words, a slot has ${this.words.length}`);
    return this.words.subarray(0, this.#at);
  }
}
