import { referenceBackend } from '@lowrank/testkit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  copyInto,
  counting,
  Device,
  dropout,
  keep,
  matmul,
  nullBackend,
  Scope,
  scope,
  softmax,
  type Tensor,
  tracing,
  validating,
} from '../src/index.ts';
import { TinyModel } from './support/block.ts';
import { device } from './support/device.ts';

describe('scopes', () => {
  test('free what they made, keep what they return', async () => {
    const d = device();
    const y = scope(() => {
      const a = d.tensor([1, 2, 3]);
      const b = a.mul(2);
      return { deep: [b.add(1)] };
    });
    expect(d.memory().live).toBe(64); // one tensor, rounded to the alignment
    expect([...(await y.deep[0]!.toArray())]).toEqual([3, 5, 7]);
    y.deep[0]!.dispose();
  });

  test('nest, and hand tensors outward', () => {
    const d = device();
    using outer = new Scope();
    const x = scope(() => scope(() => d.tensor([1])));
    expect(x.disposed).toBe(false);
    outer.detach(x);
    x.dispose();
    expect(() => x.view).toThrow('used after dispose');
  });

  test('refuse promises', () => {
    expect(() => scope(async () => {})).toThrow('scope: fn returned a promise');
  });
});

describe('views agree with plain indexing', () => {
  test('chains of slice, permute, reshape, expand', async () => {
    const d = device();
    type Ref = { shape: number[]; at: (i: number[]) => number };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(1000), { maxLength: 6 }),
        async (shape, choices) => {
          const size = shape.reduce((p, n) => p * n, 1);
          let t: Tensor = keep(
            d.tensor(
              Int32Array.from({ length: size }, (_, i) => i),
              { shape },
            ),
          );
          let ref: Ref = { shape, at: (i) => i.reduce((p, x, k) => p * shape[k]! + x, 0) };
          const made = [t];
          for (const c of choices) {
            const axis = c % t.rank;
            const before = ref;
            if (c % 4 === 0) {
              const from = c % t.shape[axis]!;
              t = t.slice(axis, from);
              ref = {
                shape: before.shape.map((n, i) => (i === axis ? n - from : n)),
                at: (i) => before.at(i.map((x, k) => (k === axis ? x + from : x))),
              };
            } else if (c % 4 === 1) {
              t = t.transpose(0, axis);
              const swap = <X>(list: X[]) => {
                const out = [...list];
                [out[0], out[axis]] = [out[axis]!, out[0]!];
                return out;
              };
              ref = { shape: swap(before.shape), at: (i) => before.at(swap(i)) };
            } else if (c % 4 === 2) {
              const n = t.size;
              t = t.reshape([n]);
              ref = {
                shape: [n],
                at: ([j]) => {
                  const index = new Array<number>(before.shape.length);
                  let left = j!;
                  for (let k = index.length - 1; k >= 0; k--) {
                    index[k] = left % before.shape[k]!;
                    left = Math.floor(left / before.shape[k]!);
                  }
                  return before.at(index);
                },
              };
            } else if (t.size < 200) {
              t = t.expand([2, ...t.shape]);
              ref = { shape: [2, ...before.shape], at: (i) => before.at(i.slice(1)) };
            }
            made.push(t);
          }
          expect([...t.shape]).toEqual(ref.shape);
          const got = await t.toArray();
          got.forEach((g, j) => {
            const index: number[] = [];
            let left = j;
            for (let k = ref.shape.length - 1; k >= 0; k--) {
              index.unshift(left % ref.shape[k]!);
              left = Math.floor(left / ref.shape[k]!);
            }
            expect(g).toBe(ref.at(index));
          });
          for (const m of new Set(made)) m.dispose();
          expect(d.memory().live).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('fused ops', () => {
  test('explain tells what fell back, require refuses', () => {
    const bare = device({ kernels: false });
    const x = keep(bare.tensor([1, 2]));
    scope(() => void softmax(x));
    expect(bare.explain()).toEqual([{ op: 'softmax', reason: 'reference has no such kernel', count: 1 }]);
    const refusals = () => [{ variant: 'fast', reason: 'the driver says no' }];
    const refused = new Device({ ...bare.backend, refusals });
    expect(refused.explain()).toEqual([{ op: 'variant fast', reason: 'the driver says no', count: 0 }]);
    x.dispose();
    const strict = device({ kernels: false, fused: 'require' });
    const y = keep(strict.tensor([1, 2]));
    expect(() => softmax(y)).toThrow('softmax: no fused kernel takes this call');
    y.dispose();
  });

  test('dropout is one function of seed, site and element', async () => {
    const d = device();
    const x = keep(d.full([1000], 1));
    const seed = keep(d.seed(7));
    const [a, b, c] = [keep(dropout(x, 0.3, seed, 1)), keep(dropout(x, 0.3, seed, 1)), keep(dropout(x, 0.3, seed, 2))];
    const [va, vb, vc] = [await a.toArray(), await b.toArray(), await c.toArray()];
    expect(va).toEqual(vb);
    expect(va).not.toEqual(vc);
    const zeros = va.filter((v) => v === 0).length;
    expect(zeros).toBeGreaterThan(230);
    expect(zeros).toBeLessThan(370);
    for (const t of [a, b, c, x, seed]) t.dispose();
  });
});

describe('the null backend', () => {
  test('accounts the very bytes of the backend that it is like', () => {
    const real = device();
    const shadow = new Device(nullBackend(real.backend));
    for (const policy of ['none', 'block'] as const) {
      for (const d of [real, shadow]) {
        d.pool.resetPeak();
        const m = new TinyModel(d);
        m.step({ policy, chunked: true }).dispose();
        m.dispose();
      }
      expect(shadow.memory().peak).toBe(real.memory().peak);
      expect(shadow.memory().peakReserved).toBe(real.memory().peakReserved);
    }
    expect(shadow.memory().live).toBe(0);
  });
});

describe('decorators', () => {
  test('a backend that is an instance of a class keeps its methods', async () => {
    class Own {
      readonly #inner = referenceBackend();
      readonly name = 'own';
      get caps() {
        return this.#inner.caps;
      }
      get memory() {
        return this.#inner.memory;
      }
      get primitives() {
        return this.#inner.primitives;
      }
      readonly fused = {};
      closed = false;
      synchronize() {
        return this.#inner.synchronize();
      }
      async close() {
        this.closed = true;
        await this.#inner.close();
      }
    }
    const own = new Own();
    const { backend, counts } = counting(own);
    await using d = new Device(backend);
    using x = d.tensor([1, 2]);
    using y = x.add(x);
    expect(await y.toArray()).toEqual(Float32Array.of(2, 4));
    expect(counts.get('binary')?.calls).toBe(1);
    await backend.synchronize();
    await backend.close();
    expect(own.closed).toBe(true);
  });

  test('trace, count and validate without knowing any op', async () => {
    const events: string[] = [];
    const { backend, counts } = counting(
      tracing(referenceBackend(), (e) => events.push(`${e.op} ${e.outputs.y ?? ''}`)),
    );
    const d = new Device(backend);
    const x = keep(
      d.tensor([
        [1, 2],
        [3, 4],
      ]),
    );
    const y = keep(matmul(x, x));
    expect(events).toEqual(['matmul [2,2] f32']);
    expect(counts.get('matmul')?.calls).toBe(1);
    x.dispose();
    y.dispose();
  });

  test('validation names the wrong kernel', async () => {
    const wrong = referenceBackend();
    const broken = {
      ...wrong,
      primitives: {
        ...wrong.primitives,
        unary: (c: Parameters<typeof wrong.primitives.unary>[0]) =>
          wrong.primitives.unary({ ...c, attrs: { ...c.attrs, op: 'neg' } }),
      },
    };
    for (const [backend, fine] of [
      [wrong, true],
      [broken, false],
    ] as const) {
      const { backend: watched, settle } = validating(backend, referenceBackend());
      const d = new Device(watched);
      const x = keep(d.tensor([1, 2, 3]));
      const y = keep(x.exp());
      if (fine) expect(await settle()).toMatchObject([{ op: 'unary', output: 'y' }]);
      else await expect(settle()).rejects.toThrow('validate: a kernel differs from the oracle: unary.y');
      x.dispose();
      y.dispose();
    }
  });
});

describe('memory', () => {
  test('is counted by class, and out of memory says what is held', () => {
    const backend = referenceBackend();
    const memory = {
      ...backend.memory,
      pooling: { kind: 'slab' as const, slabBytes: 1024 },
      allocate: (n: number) => {
        if (n > 4096) throw new Error('no room');
        return backend.memory.allocate(n);
      },
    };
    const d = new Device({ ...backend, memory });
    const w = d.withClass('weights', () => keep(d.zeros([256])));
    expect(d.memory().liveByClass.weights).toBe(1024);
    expect(() => d.zeros([4096])).toThrow(/allocate: out of device memory: asked .* held: weights/);
    w.dispose();
    expect(d.memory().live).toBe(0);
  });

  test('runs take turns in a scratch: together they hold what the largest needs', async () => {
    const d = device();
    const x = keep(d.tensor([1, 2, 3, 4]));
    const out = keep(d.zeros([4]));
    const scratch = d.scratch();
    const work = (times: number) => () =>
      scope(() => {
        let y = x;
        for (let i = 0; i < times; i++) y = y.add(x);
        copyInto(y, out);
      });
    const held = () => d.memory().reserved;
    const first = d.record(work(3), scratch);
    const one = held();
    const second = d.record(work(5), scratch);
    scratch.run(work(4));
    expect([...(await out.toArray())]).toEqual([5, 10, 15, 20]);
    second.replay();
    expect([...(await out.toArray())]).toEqual([6, 12, 18, 24]);
    first.replay();
    expect([...(await out.toArray())]).toEqual([4, 8, 12, 16]);
    expect(held()).toBe(one);
    expect(scratch.occupied).toBe(false);
    // addresses that a recording knows stay, also when memory is short
    d.pool.trim();
    expect(held()).toBe(one);
    const left = scratch.run(() => keep(x.mul(2)));
    expect(scratch.occupied).toBe(true);
    first.dispose();
    second.dispose();
    scratch.dispose();
    expect([...(await left.toArray())]).toEqual([2, 4, 6, 8]);
    left.dispose();
    x.dispose();
    out.dispose();
    d.pool.trim();
    expect(held()).toBe(0);
  });

  test('what can let go of memory is asked before there is none', () => {
    const backend = referenceBackend();
    let room = 8192;
    const memory = {
      ...backend.memory,
      pooling: { kind: 'slab' as const, slabBytes: 1024 },
      allocate: (n: number) => {
        if (n > room) throw new Error('no room');
        room -= n;
        return backend.memory.allocate(n);
      },
      release: (buffer: { byteLength: number }) => {
        room += buffer.byteLength;
        backend.memory.release(buffer);
      },
    };
    const d = new Device({ ...backend, memory });
    const spare = keep(d.zeros([1024]));
    d.pool.reclaimers.add(() => spare.dispose());
    const wanted = keep(d.zeros([1536]));
    expect(d.memory().live).toBe(6144);
    wanted.dispose();
  });

  test('host data cannot be written inside a recorded step', () => {
    const d = device();
    expect(() => d.record(() => d.tensor([1]))).toThrow('record: host data cannot be written inside a recorded step');
    expect(d.recording).toBe(false);
  });
});
