import { describe, expect, test } from 'vitest';
import { attention, backward, fillInto, type RecomputePolicy, rope, Scope, split, type Tensor } from '../src/index.ts';
import { TinyModel } from './support/block.ts';
import { device, relative } from './support/device.ts';

async function run(options: { fused?: 'auto' | 'off'; policy?: RecomputePolicy; chunked?: boolean }) {
  const d = device({ fused: options.fused ?? 'auto' });
  const model = new TinyModel(d);
  const loss = model.step(options);
  const result = { loss: await loss.item(), gradients: await model.gradients(), peak: d.memory().peak };
  loss.dispose();
  model.dispose();
  return result;
}

function worst(a: Map<string, Float32Array>, b: Map<string, Float32Array>): number {
  expect([...a.keys()]).toEqual([...b.keys()]);
  return Math.max(...[...b].map(([name, g]) => relative(a.get(name)!, g)));
}

describe('a train step of three blocks', () => {
  test('fused kernels, decompositions and chunked loss give the same gradients', async () => {
    const base = await run({});
    for (const other of [
      await run({ fused: 'off' }),
      await run({ chunked: true }),
      await run({ fused: 'off', policy: 'block', chunked: true }),
    ]) {
      expect(Math.abs(other.loss - base.loss)).toBeLessThan(1e-6 * base.loss);
      expect(worst(other.gradients, base.gradients)).toBeLessThan(1e-5);
    }
  });

  test('recompute policies give the same bits, and hold less', async () => {
    const base = await run({});
    const selective = await run({ policy: 'selective' });
    const block = await run({ policy: 'block' });
    const chosen = await run({ policy: ({ op }) => (op === 'attention' ? 'keep' : 'recompute') });
    for (const other of [selective, block, chosen]) {
      expect(other.loss).toBe(base.loss);
      expect(other.gradients).toEqual(base.gradients);
    }
    expect(selective.peak).toBeLessThan(base.peak);
    expect(block.peak).toBeLessThan(selective.peak);
  });

  test('what no gradient reads is not made again', async () => {
    // the output of the block's last product is added and forgotten: one loraLinear a block less than in the forward pass
    const counts: string[] = [];
    const d = device();
    const kernel = d.backend.fused.loraLinear!;
    (d.backend.fused as Record<string, unknown>).loraLinear = {
      ...kernel,
      run: (c: never) => {
        counts.push('loraLinear');
        kernel.run(c);
      },
    };
    const model = new TinyModel(d);
    const loss = model.loss({ policy: 'block' });
    const forward = counts.length;
    loss.dispose();
    counts.length = 0;
    model.step({ policy: 'block' }).dispose();
    expect(forward).toBe(12); // qkv, o, gate and up, down in each of three blocks
    expect(counts.length - forward).toBe(9);
    model.dispose();
  });

  test('the gradient of a joint projection is made in its place', () => {
    const d = device();
    const copies: unknown[] = [];
    const { copy } = d.backend.primitives;
    (d.backend.primitives as Record<string, unknown>).copy = (c: never) => {
      copies.push(c);
      copy(c);
    };
    using _ = new Scope();
    const qkv = d.random([2, 5, 8, 16], { seed: 1 }).requireGrad();
    const table = d.random([5, 8], { seed: 2 });
    const positions = d.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4], { shape: [2, 5], dtype: 'i32' });
    const turned = rope(qkv, table, table, positions, { heads: 6 });
    const [q, k, v] = split(turned, [4, 2, 2], 2) as [Tensor, Tensor, Tensor];
    backward(attention(q, k, v).sum());
    expect(copies).toEqual([]);
    qkv.grad!.dispose();
  });

  test('a recorded step replays the bits of the eager one', async () => {
    const d = device();
    const model = new TinyModel(d);
    const eager = model.step({ policy: 'block', chunked: true });
    const want = { loss: await eager.item(), gradients: await model.gradients() };
    eager.dispose();
    using recording = d.record(() => {
      for (const p of model.parameters.values()) fillInto(p.grad!, 0);
      return model.step({ policy: 'block', chunked: true });
    });
    const before = d.memory().allocations;
    for (let i = 0; i < 3; i++) {
      recording.replay();
      expect(await recording.result.item()).toBe(want.loss);
      expect(await model.gradients()).toEqual(want.gradients);
    }
    expect(d.memory().allocations).toBe(before);
    recording.result.dispose();
    model.dispose();
  });

  test('a graph that is dropped without a backward pass leaves nothing', () => {
    const model = new TinyModel(device());
    for (const policy of ['none', 'selective', 'block'] as const)
      model.loss({ policy, chunked: policy === 'block' }).dispose();
    model.dispose();
  });
});
