import { referenceBackend } from '@lowrank/testkit';
import { afterEach, describe, expect, test } from 'vitest';
import { backward, checkpoint, Device, matmul, nullBackend, type RecomputePolicy, Scope, scope } from '../src/index.ts';
import { type StepOptions, TinyModel } from './support/block.ts';
import { withLazyHost } from './support/lazy-host.ts';

const open: Device[] = [];
const deviceOver = (backend: ConstructorParameters<typeof Device>[0]) => {
  const d = new Device(backend);
  open.push(d);
  return d;
};
afterEach(() => {
  for (const d of open.splice(0)) {
    expect(d.memory().live, 'leaked bytes').toBe(0);
    expect(d.backend.memory.offload?.hostBytes() ?? 0, 'host bytes').toBe(0);
  }
});

async function step(options: StepOptions) {
  const backend = withLazyHost(referenceBackend({ fused: true }));
  const d = deviceOver(backend);
  const model = new TinyModel(d);
  const loss = model.step(options);
  const result = { loss: await loss.item(), gradients: await model.gradients(), peak: d.memory().peak };
  loss.dispose();
  model.dispose();
  return { ...result, log: backend.log };
}

describe('tensors that wait in host memory', () => {
  test.each<[RecomputePolicy]>([['none'], ['selective'], ['block']])(
    'a step whose copies take as long as they may gives the same bits: %s',
    async (policy) => {
      const base = await step({ policy });
      const moved = await step({ policy, offload: true });
      expect(moved.loss).toBe(base.loss);
      expect(moved.gradients).toEqual(base.gradients);
      expect(base.log).toEqual([]);
      expect(moved.log.filter((e) => e === 'store').length).toBeGreaterThanOrEqual(3);
    },
  );

  test('what a block keeps leaves with its input, and less is held', async () => {
    const [block, selective] = [
      await step({ policy: 'block', offload: true }),
      await step({ policy: 'selective', offload: true }),
    ];
    const stores = (r: { log: string[] }) => r.log.filter((e) => e === 'store').length;
    expect(stores(block)).toBe(3);
    // q, k and v; attention's output and its log-sum-exp; the output projection and both low-rank products
    expect(stores(selective)).toBeGreaterThanOrEqual(3 * 4);
    expect(selective.peak).toBeLessThan((await step({ policy: 'selective' })).peak);
  });

  test('results many times wider than their operand are made again instead', async () => {
    const stores = (width: number) => {
      const backend = withLazyHost(referenceBackend({ fused: true }));
      const d = deviceOver(backend);
      using _ = new Scope();
      const x = d.random([512, 4], { seed: 1 }).requireGrad();
      const [wide, narrow] = [d.random([4, width], { seed: 2 }), d.random([width, 1], { seed: 3 }).requireGrad()];
      const y = checkpoint('selective', () => scope(() => matmul(matmul(x, wide), narrow).mul(2)), { offload: true });
      backward(y.sum());
      for (const t of [x, narrow]) t.grad!.dispose();
      return backend.log.filter((e) => e === 'store').length;
    };
    expect(stores(16)).toBe(1);
    expect(stores(17)).toBe(0);
  });

  test('a forecast counts the bytes that the device counts', async () => {
    for (const options of [
      { policy: 'selective', offload: true },
      { policy: 'block', offload: true },
    ] as const) {
      const real = await step(options);
      const d = deviceOver(nullBackend(withLazyHost(referenceBackend({ fused: true }))));
      const model = new TinyModel(d);
      model.step(options).dispose();
      expect(d.memory().peak).toBe(real.peak);
      model.dispose();
    }
  });

  test('tensors come back in any order, and may be let go anywhere on their way', async () => {
    const backend = withLazyHost(referenceBackend({ fused: true }));
    const d = deviceOver(backend);
    const make = (i: number) => {
      const t = d.tensor(Float32Array.from({ length: 64 }, (_, j) => i * 100 + j));
      const kept = t.alias();
      t.offload();
      return kept;
    };
    let state = 11;
    const next = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % limit;
    };
    const waiting: { i: number; t: ReturnType<typeof make> }[] = [];
    for (let i = 0; i < 300; i++) {
      const choice = next(5);
      if (choice < 2 || waiting.length === 0) waiting.push({ i, t: make(i) });
      else if (choice === 2) d.offloads!.turn();
      else {
        const [{ i: made, t }] = waiting.splice(next(2) ? waiting.length - 1 : next(waiting.length), 1) as [
          (typeof waiting)[0],
        ];
        if (choice === 3) expect((await t.toArray())[7]).toBe(made * 100 + 7);
        t.dispose();
      }
      if (next(40) === 0) d.offloads!.settle();
    }
    for (const { i, t } of waiting) {
      expect((await t.toArray())[63]).toBe(i * 100 + 63);
      t.dispose();
    }
  });

  test('where memory is short, nothing comes ahead of its time', async () => {
    const inner = withLazyHost(referenceBackend({ fused: true }));
    let room = Number.POSITIVE_INFINITY;
    const backend = {
      ...inner,
      memory: {
        ...inner.memory,
        pooling: { kind: 'whole' as const },
        allocate: (n: number) => {
          if (n > room) throw new Error('no room');
          return inner.memory.allocate(n);
        },
      },
    };
    const d = deviceOver(backend);
    const all = [0, 1, 2, 3, 4].map((i) => {
      const t = d.full([1024 * (i + 1)], i);
      const kept = t.alias();
      t.offload();
      return kept;
    });
    d.offloads!.settle();
    d.pool.trim();
    room = 4 * 1024 * 2;
    expect((await all[1]!.toArray())[0]).toBe(1);
    expect(inner.log.filter((e) => e === 'fetch')).toHaveLength(1);
    room = Number.POSITIVE_INFINITY;
    for (const [i, t] of all.entries()) {
      expect((await t.toArray())[0]).toBe(i);
      t.dispose();
    }
  });
});
