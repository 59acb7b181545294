import type { WebGpuBuffer } from './buffer.ts';
import type { WebGpuMemory } from './memory.ts';

/**
 * Memory for what one call passes from a dispatch to the next, where the contract gives no workspace. Kernels run in order, so the next
 * call may use it again. Grows, and is held until the backend is closed.
 */
export class Scratch {
  readonly #memory: WebGpuMemory;
  #buffer: WebGpuBuffer | undefined;

  constructor(memory: WebGpuMemory) {
    this.#memory = memory;
  }

  /** At least so many bytes, contents undefined. Good until the next `take`. */
  take(byteLength: number): WebGpuBuffer {
    if (!this.#buffer || this.#buffer.byteLength < byteLength) {
      if (this.#buffer) this.#memory.release(this.#buffer);
      this.#buffer = this.#memory.allocate(Math.max(byteLength, 2 ** 16));
    }
    return this.#buffer;
  }
}

/** What products take beside their operands: partial sums, weights dequantized, pairs packed, and a gradient that several layers add to. */
export interface Scratches {
  readonly sums: Scratch;
  readonly weights: Scratch;
  readonly pairs: Scratch;
  readonly gradients: Scratch;
}
