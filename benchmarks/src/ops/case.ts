import { type Backend, type Device, type FloatDType, keep, type Tensor } from '@lowrank/tensor';
import type { Work } from '../record.ts';

/** Makes operands: on the device where they are large, from the host where two devices must get the same numbers. */
export class Data {
  readonly device: Device;
  readonly #host: boolean;
  #state: number;

  constructor(device: Device, options: { seed: number; host?: boolean }) {
    this.device = device;
    this.#host = options.host ?? false;
    this.#state = (options.seed ^ 0x9e3779b9) >>> 0;
  }

  /** Uniform in [0, 1): mulberry32. */
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Normal numbers. */
  normal(shape: readonly number[], scale = 1, dtype: FloatDType = 'f32'): Tensor {
    if (this.#host) {
      const size = shape.reduce((p, d) => p * d, 1);
      const values = Float32Array.from(
        { length: size },
        () => scale * Math.sqrt(-2 * Math.log(1 - this.#next())) * Math.cos(2 * Math.PI * this.#next()),
      );
      return keep(this.device.tensor(values, { shape, dtype }));
    }
    if (slowRandom(this.device)) return this.#tiled(shape, scale, dtype);
    using plain = keep(this.device.random(shape, { seed: Math.floor(this.#next() * 2 ** 31), dtype }));
    return keep(plain.affine(scale, 0));
  }

  /** A block of random numbers again and again, where a device would take long to make as many. */
  #tiled(shape: readonly number[], scale: number, dtype: FloatDType): Tensor {
    const size = shape.reduce((p, d) => p * d, 1);
    const block = Float32Array.from(
      { length: Math.min(size, 65_537) },
      () => scale * (this.#next() * 2 - 1) * Math.sqrt(3),
    );
    const values = new Float32Array(size);
    for (let at = 0; at < size; at += block.length) values.set(block.subarray(0, size - at), at);
    return keep(this.device.tensor(values, { shape, dtype }));
  }

  /** Whole numbers from 0 to high − 1. */
  integers(shape: readonly number[], high: number): Tensor {
    const size = shape.reduce((p, d) => p * d, 1);
    const values = Int32Array.from({ length: size }, () => Math.floor(this.#next() * high));
    return keep(this.device.tensor(values, { shape, dtype: 'i32' }));
  }
}

const slow = new WeakMap<Backend['memory'], boolean>();

/** Does a random number take a device more than a quarter of a microsecond? */
function slowRandom(device: Device): boolean {
  let known = slow.get(device.backend.memory);
  if (known === undefined) {
    const start = performance.now();
    keep(device.random([4096], { seed: 0 })).dispose();
    known = performance.now() - start > 1 && !device.backend.caps.asynchronous;
    slow.set(device.backend.memory, known);
  }
  return known;
}

/** One set of operands with the call on it. */
export interface Built {
  /** Enqueues the op. What it gives is disposed by the caller. */
  run(): readonly Tensor[] | Promise<readonly Tensor[]>;
  /** The operands, for their disposal. */
  readonly held: readonly Disposable[];
}

/** An op at a shape: what is run, and what it must do at least. */
export interface OpCase {
  /** `matmul 256×1024×1024 f32` */
  readonly name: string;
  readonly dtype: FloatDType;
  /** Which measured ceiling it is compared with. */
  readonly bound: 'gemm' | 'copy';
  readonly work: Work;
  /** Sizes of the measurement, and small ones on which results are compared with the reference. */
  readonly sizes: readonly number[];
  readonly small: readonly number[];
  /** Part of the quick set. */
  readonly quick: boolean;
  build(data: Data, sizes: readonly number[]): Built | Promise<Built>;
  /** The largest relative difference (of norms) from the reference that is rounding. */
  readonly tolerance: number;
  /** True: recorded once and replayed. False: never. Otherwise on devices that run apart from the host, so that launching is not measured. */
  readonly recorded?: boolean;
  /**
   * How far the result at `sizes` is from right (a ratio of norms), by other means than the op itself. Where absent, an op with a fused
   * kernel is compared with its primitives.
   */
  prove?(data: Data, sizes: readonly number[]): Promise<number>;
  /** Nothing but its own kernel computes it (a copy, `quantize`): the small sizes are all that is compared. */
  readonly alone?: boolean;
  /** A product x [m, k] · wᵀ in f32 that other libraries can run as well. */
  readonly product?: { readonly m: number; readonly k: number; readonly n: number; readonly weight: 'dense' | 'nf4' };
}

export const roundingOf: Readonly<Record<FloatDType, number>> = { f32: 1e-4, f16: 1e-2, bf16: 4e-2 };
export const bytesOfDtype: Readonly<Record<FloatDType, number>> = { f32: 4, f16: 2, bf16: 2 };
