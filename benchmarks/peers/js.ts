/** Other JavaScript libraries on the products of the ops suite. Both run on one thread in Node. */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Data, type OpCase } from '../src/ops/case.ts';
import type { Contender, Prepared } from '../src/ops/contender.ts';
import type { ContenderFacts } from '../src/record.ts';

/** x [m, k] · wᵀ for w [n, k], as a library does it. */
interface Library<T> {
  upload(values: Float32Array, shape: [number, number]): T;
  /** w [n, k], in the form that suits the library. */
  weight(values: Float32Array, shape: [number, number]): T;
  product(x: T, w: T): T;
  read(t: T): Promise<Float32Array>;
  settle(last: T): Promise<void>;
  dispose(t: T): void;
}

/** Same bytes in passing as our own contenders take. */
const flushBytes = 96 * 2 ** 20;

class ProductContender<T> implements Contender {
  readonly facts: ContenderFacts;
  readonly #library: Library<T>;

  constructor(facts: ContenderFacts, library: Library<T>) {
    this.facts = facts;
    this.#library = library;
  }

  takes({ product }: OpCase): boolean {
    return product !== undefined;
  }

  async prepare({ product, work }: OpCase, seed: number): Promise<Prepared> {
    const { m, k, n } = product!;
    const library = this.#library;
    const count = Math.max(1, Math.min(8, Math.ceil(flushBytes / work.bytes!)));
    const sets = Array.from({ length: count }, (_, i) => ({
      x: library.upload(uniform(m * k, seed + 2 * i), [m, k]),
      w: library.weight(uniform(n * k, seed + 2 * i + 1), [n, k]),
    }));
    let next = 0;
    let last: T | undefined;
    const forget = () => {
      if (last !== undefined) library.dispose(last);
      last = undefined;
    };
    return {
      calls: 1,
      shortestSample: 2,
      run: () => {
        forget();
        const { x, w } = sets[next++ % count]!;
        last = library.product(x, w);
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

  async results({ small }: OpCase, seed: number): Promise<Float64Array[]> {
    const [m, k, n] = small as [number, number, number];
    // the numbers that the reference gets
    const data = hostNormals(seed);
    const library = this.#library;
    const x = library.upload(data(m * k, 1), [m, k]);
    const w = library.weight(data(n * k, k ** -0.5), [n, k]);
    const y = library.product(x, w);
    const out = Float64Array.from(await library.read(y));
    for (const t of [x, w, y]) library.dispose(t);
    return [out];
  }

  async close(): Promise<void> {}
}

function uniform(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** Takes the numbers of `Data` without a device. */
function hostNormals(seed: number): (count: number, scale: number) => Float32Array<ArrayBuffer> {
  let made = new Float32Array(0);
  const device = {
    tensor: (values: Float32Array<ArrayBuffer>) => {
      made = values;
      return { [Symbol.dispose]: () => {} };
    },
  };
  const data = new Data(device as never, { seed, host: true });
  return (count, scale) => {
    data.normal([count], scale);
    return made;
  };
}

/** Its product with a transposed operand takes a path that is ten times slower: the weight is stored [in, out], its better form. */
async function tfjs(): Promise<Contender> {
  const tf = await import('@tensorflow/tfjs-core');
  const wasm = await import('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(`${dirname(createRequire(import.meta.url).resolve(names.tfjs))}/`);
  if (!(await tf.setBackend('wasm'))) throw new Error('its backend wasm does not start');
  await tf.ready();
  type T = ReturnType<typeof tf.tensor2d>;
  return new ProductContender<T>(facts(names.tfjs, 'weight stored [in, out]'), {
    upload: (values, shape) => tf.tensor2d(values, shape),
    weight: (values, shape) => tf.tidy(() => tf.transpose(tf.tensor2d(values, shape))),
    product: (x, w) => tf.matMul(x, w),
    read: async (t) => (await t.data()) as Float32Array,
    settle: async () => {}, // its kernels run before the call returns
    dispose: (t) => t.dispose(),
  });
}

async function jaxJs(): Promise<Contender> {
  const jax = await import('@jax-js/jax');
  if (!(await jax.init('wasm')).includes('wasm')) throw new Error('its backend wasm does not start');
  jax.defaultDevice('wasm');
  const np = jax.numpy;
  type T = ReturnType<typeof np.array>;
  const upload = (values: Float32Array, shape: [number, number]) =>
    np.array(values as Float32Array<ArrayBuffer>).reshape(shape);
  // calls consume what they are given; `.ref` keeps it
  const multiply = jax.jit((x: T, w: T) => np.matmul(x, w.transpose()));
  return new ProductContender<T>(facts(names.jaxJs, 'jit, weight stored [out, in]'), {
    upload,
    weight: upload,
    product: (x, w) => multiply(x.ref, w.ref),
    read: async (t) => (await t.ref.data()) as Float32Array,
    settle: async (t) => {
      await t.blockUntilReady();
    },
    dispose: (t) => t.dispose(),
  });
}

const names = { tfjs: '@tensorflow/tfjs-backend-wasm', jaxJs: '@jax-js/jax' } as const;

const facts = (name: string, note: string): ContenderFacts => ({
  name,
  kind: 'peer',
  device: `WebAssembly, 1 thread, ${note}`,
  driver: null,
  features: [],
});

/** Peers that are installed; the others with the reason and what installs them. */
export async function jsPeers(): Promise<{ found: Contender[]; absent: { facts: ContenderFacts; reason: string }[] }> {
  const found: Contender[] = [];
  const absent: { facts: ContenderFacts; reason: string }[] = [];
  for (const [name, open] of [
    [names.tfjs, tfjs],
    [names.jaxJs, jaxJs],
  ] as const) {
    try {
      found.push(await open());
    } catch (error) {
      const install = name === names.tfjs ? `${name} @tensorflow/tfjs-core` : name;
      const why = (error as Error).message.split('\n')[0];
      absent.push({
        facts: facts(name, 'absent'),
        reason: `${why}. Install: pnpm --filter @lowrank/benchmarks add -D ${install}`,
      });
    }
  }
  return { found, absent };
}
