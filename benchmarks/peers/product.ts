import { BlockwiseWeight } from '@lowrank/nf4';
import { Device } from '@lowrank/tensor';
import { referenceBackend } from '@lowrank/testkit';
import { Data, type OpCase } from '../src/ops/case.ts';
import type { Contender, Prepared } from '../src/ops/contender.ts';
import type { ContenderFacts } from '../src/record.ts';

/** x [m, k] · wᵀ for w [n, k], as a library does it. */
export interface Library<T> {
  upload(values: Float32Array, shape: Shape): T;
  /** w [n, k], in the form that suits the library. */
  weight(values: Float32Array, shape: Shape): T | Promise<T>;
  /** The same from NF4: two codes a byte, the first one high, and a scale for 64 of them. A library without has no such product. */
  nf4?(codes: Uint8Array, absmax: Float32Array, shape: Shape): T | Promise<T>;
  product(x: T, w: T): T | Promise<T>;
  read(t: T): Promise<Float32Array>;
  settle(last: T): Promise<void>;
  dispose(t: T): void;
}
export type Shape = readonly [number, number];

/** Same bytes in passing as our own contenders take, and the largest weight that is handed over. */
const flushBytes = 96 * 2 ** 20;
const largest = 512 * 2 ** 20;
const block = 64;

export class ProductContender<T> implements Contender {
  readonly facts: ContenderFacts;
  readonly packages: Readonly<Record<string, string>>;
  readonly apart: boolean;
  readonly #library: Library<T>;

  constructor(facts: ContenderFacts, packages: Readonly<Record<string, string>>, apart: boolean, library: Library<T>) {
    this.facts = facts;
    this.packages = packages;
    this.apart = apart;
    this.#library = library;
  }

  takes({ product }: OpCase): boolean {
    if (!product || 4 * product.k * product.n > largest) return false;
    return product.weight === 'dense' || this.#library.nf4 !== undefined;
  }

  async prepare({ product, work }: OpCase, seed: number): Promise<Prepared> {
    const { m, k, n, weight } = product!;
    const library = this.#library;
    const count = Math.max(1, Math.min(8, Math.ceil(flushBytes / work.bytes!)));
    const sets: { x: T; w: T }[] = [];
    for (let i = 0; i < count; i++)
      sets.push({
        x: library.upload(uniform(m * k, seed + 2 * i), [m, k]),
        w:
          weight === 'dense'
            ? await library.weight(uniform(n * k, seed + 2 * i + 1), [n, k])
            : await library.nf4!(noise((n * k) / 2, seed + i), new Float32Array((n * k) / block).fill(0.1), [n, k]),
      });
    let next = 0;
    let last: T | undefined;
    const forget = () => {
      if (last !== undefined) library.dispose(last);
      last = undefined;
    };
    return {
      calls: 1,
      shortestSample: this.apart ? 10 : 2,
      run: () => {
        forget();
        const { x, w } = sets[next++ % count]!;
        const y = library.product(x, w);
        if (!(y instanceof Promise)) last = y;
        else
          return y.then((made) => {
            last = made;
          });
      },
      synchronize: async () => {
        if (last !== undefined) await library.settle(last);
      },
      dispose: () => {
        forget();
        for (const { x, w } of sets) for (const t of [x, w]) library.dispose(t);
      },
    };
  }

  /** On the numbers that the reference gets. */
  async results({ small, product }: OpCase, seed: number): Promise<Float64Array[]> {
    const library = this.#library;
    await using device = new Device(referenceBackend());
    const data = new Data(device, { seed, host: true });
    const take = async (shape: Shape, scale: number) => {
      using t = data.normal(shape, scale);
      return Float32Array.from(await t.toArray());
    };
    let x: T;
    let w: T;
    if (product!.weight === 'dense') {
      const [m, k, n] = small as [number, number, number];
      x = library.upload(await take([m, k], 1), [m, k]);
      w = await library.weight(await take([n, k], k ** -0.5), [n, k]);
    } else {
      const [m, n, k] = small as [number, number, number];
      using values = data.normal([n, k], k ** -0.5);
      using quantized = await BlockwiseWeight.quantize(values);
      const codes = Uint8Array.from(await quantized.quant.codes.toArray());
      w = await library.nf4!(codes, await scales(quantized), [n, k]);
      x = library.upload(await take([m, k], 1), [m, k]);
    }
    const y = await library.product(x, w);
    const out = Float64Array.from(await library.read(y));
    for (const t of [x, w, y]) library.dispose(t);
    return [out];
  }

  async close(): Promise<void> {}
}

/** The scale of each block, as it comes out of the second quantization: the largest value of a block is its scale, since ±1 are codes. */
async function scales(weight: BlockwiseWeight): Promise<Float32Array> {
  using dense = weight.dequantize('f32');
  const values = Float32Array.from(await dense.toArray());
  return Float32Array.from({ length: values.length / block }, (_, i) =>
    values.subarray(i * block, (i + 1) * block).reduce((most, v) => Math.max(most, Math.abs(v)), 0),
  );
}

/** Numbers of a linear congruential generator, 32 bits each. */
function* numbers(seed: number): Generator<number, never> {
  let state = (seed * 2654435761 + 1) >>> 0;
  for (;;) yield (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
}

function uniform(count: number, seed: number): Float32Array {
  const source = numbers(seed);
  return Float32Array.from({ length: count }, () => source.next().value / 2 ** 31 - 1);
}

function noise(count: number, seed: number): Uint8Array {
  const source = numbers(seed);
  return Uint8Array.from({ length: count }, () => source.next().value >>> 24);
}
