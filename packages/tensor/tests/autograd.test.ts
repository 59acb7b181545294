import { describe, expect, test } from 'vitest';
import {
  type BinaryOp,
  backward,
  binary,
  binaryOps,
  cast,
  concat,
  copyInto,
  type Device,
  expand,
  gather,
  gradients,
  keep,
  matmul,
  noGrad,
  permute,
  reduce,
  scatterAdd,
  scope,
  select,
  slice,
  split,
  type Tensor,
  type UnaryOp,
  unary,
  unaryOps,
} from '../src/index.ts';
import { device } from './support/device.ts';

/** Central differences of Σ w·f(x…) against its gradient, for every input element. */
async function checkGradient(
  d: Device,
  inputs: number[][],
  shapes: number[][],
  f: (...x: Tensor[]) => Tensor,
  tolerance = 2e-2,
): Promise<void> {
  const make = (values: number[][]) =>
    values.map((v, i) => keep(d.tensor(Float32Array.from(v), { shape: shapes[i]! })));
  const value = async (values: number[][]) => {
    const xs = make(values);
    const y = keep(noGrad(() => scope(() => weigh(d, f(...xs)))));
    const out = await y.item();
    for (const t of [...xs, y]) t.dispose();
    return out;
  };
  const xs = make(inputs).map((t) => t.requireGrad());
  const loss = scope(() => weigh(d, f(...xs)));
  backward(loss);
  loss.dispose();
  const h = 2e-3;
  for (const [i, x] of xs.entries()) {
    const got = x.grad ? await x.grad.toArray() : new Float32Array(x.size);
    for (let e = 0; e < x.size; e++) {
      const at = (delta: number) => inputs.map((v, j) => (j === i ? v.map((z, k) => (k === e ? z + delta : z)) : v));
      const slope = ((await value(at(h))) - (await value(at(-h)))) / (2 * h);
      expect(Math.abs(got[e]! - slope), `input ${i}, element ${e}: ${got[e]} against ${slope}`).toBeLessThan(
        tolerance * Math.max(1, Math.abs(slope)),
      );
    }
    x.grad?.dispose();
    x.dispose();
  }
}

/** Σ (1 + i/7) · y[i]: a different weight for each element. */
function weigh(d: Device, y: Tensor): Tensor {
  const w = d.tensor(
    Float32Array.from({ length: y.size }, (_, i) => 1 + i / 7),
    { shape: y.shape },
  );
  return y.mul(w).sum();
}

const six = [0.3, -0.7, 1.2, 0.9, -1.4, 0.5];
const positive = six.map((x) => Math.abs(x) + 0.2);

describe('every rule against central differences', () => {
  const differentiable = (Object.keys(unaryOps) as UnaryOp[]).filter((op) => unaryOps[op].vjp !== 'none');
  test.each(differentiable)('unary %s', async (op) => {
    const d = device();
    const x = ['log', 'sqrt', 'rsqrt', 'reciprocal'].includes(op) ? positive : six;
    await checkGradient(d, [x], [[2, 3]], (t) => unary(op, t, ...(op === 'clamp' ? [-0.5, 1] : [1.5, 0.25])));
  });

  const arithmetic = (Object.keys(binaryOps) as BinaryOp[]).filter((op) => binaryOps[op].vjp !== 'none');
  test.each(arithmetic)('binary %s, broadcast', async (op) => {
    const d = device();
    await checkGradient(d, [op === 'pow' ? positive : six, [0.8, 1.6, -0.6]], [[2, 3], [3]], (a, b) =>
      binary(op, a, b),
    );
  });

  test('reductions, with ties', async () => {
    const d = device();
    for (const op of ['sum', 'sumSquares', 'max', 'min'] as const) {
      await checkGradient(d, [six], [[2, 3]], (x) => reduce(op, x, 1));
      await checkGradient(d, [six], [[2, 3]], (x) => reduce(op, x, 0, true));
    }
  });

  test('matmul: plain, batched with broadcasting, scaled with an addend', async () => {
    const d = device();
    const eight = [...six, 0.1, -0.2];
    await checkGradient(
      d,
      [six, six],
      [
        [2, 3],
        [3, 2],
      ],
      (a, b) => matmul(a, b),
    );
    await checkGradient(
      d,
      [eight, [0.4, -0.3, 0.2, 0.7]],
      [
        [2, 2, 2],
        [2, 2],
      ],
      (a, b) => matmul(a, b),
    );
    await checkGradient(
      d,
      [six, six, [0.5, -0.5]],
      [
        [2, 3],
        [3, 2],
        [1, 2],
      ],
      (a, b, c) => matmul(a, b, { alpha: 0.5, beta: 2, c: expand(c, [2, 2]) }),
    );
  });

  test('views: slice, split, concat, permute, expand, reshape', async () => {
    const d = device();
    await checkGradient(d, [six], [[2, 3]], (x) => slice(x, 1, 1, 3).mul(slice(x, 1, 0, 2)));
    await checkGradient(d, [six], [[2, 3]], (x) => {
      const [a, b] = split(x, [1, 2], 1) as [Tensor, Tensor];
      return concat([b.mul(a), b, a], 1);
    });
    await checkGradient(d, [six], [[1, 2, 3]], (x) => permute(x, [2, 0, 1]).reshape([2, 3]).square());
    await checkGradient(d, [[0.5, -1.5]], [[2, 1]], (x) => expand(x, [3, 2, 4]).square());
  });

  test('gather, scatterAdd, select, cast', async () => {
    const d = device();
    const ids = keep(d.tensor([2, 0, 2, 7], { dtype: 'i32' }));
    await checkGradient(d, [six], [[3, 2]], (t) => gather(t, ids).square());
    await checkGradient(
      d,
      [six, [...six, 0.1, 0.2]],
      [
        [3, 2],
        [4, 2],
      ],
      (into, x) => scatterAdd(into, ids, x).square(),
    );
    ids.dispose();
    await checkGradient(
      d,
      [six, positive],
      [
        [2, 3],
        [2, 3],
      ],
      (a, b) => select(binary('gt', a, b.mul(0.5)), a, b).square(),
    );
    await checkGradient(d, [six], [[2, 3]], (x) => cast(cast(x, 'f32'), 'f32').square());
  });
});

describe('the engine', () => {
  test('adds to an existing gradient, in its own memory', async () => {
    const d = device();
    const x = keep(d.tensor([1, 2, 3])).requireGrad();
    x.grad = keep(d.tensor([10, 20, 30]));
    const held = x.grad;
    const loss = scope(() => x.square().sum());
    backward(loss);
    expect(x.grad).toBe(held);
    expect([...(await held.toArray())]).toEqual([12, 24, 36]);
    for (const t of [loss, held, x]) t.dispose();
  });

  test('a tensor used many times collects every share', async () => {
    const d = device();
    const x = keep(d.tensor([2])).requireGrad();
    const y = scope(() => x.mul(x).mul(x).add(x).sum()); // 3x² + 1 = 13
    backward(y);
    expect(await x.grad!.item()).toBe(13);
    for (const t of [y, x.grad!, x]) t.dispose();
  });

  test('gradients() leaves grad alone', async () => {
    const d = device();
    const [x, z] = [keep(d.tensor([3])).requireGrad(), keep(d.tensor([4])).requireGrad()];
    const y = scope(() => x.mul(z).sum());
    const [gx, gz] = gradients(y, [x, z]);
    expect(await gx!.item()).toBe(4);
    expect(await gz!.item()).toBe(3);
    expect(x.grad).toBeUndefined();
    for (const t of [y, gx!, gz!, x, z]) t.dispose();
  });

  test('says when no gradient can flow, when a graph is used twice, and when one would be cut', () => {
    const d = device();
    const x = keep(d.tensor([1, 2]));
    expect(() => backward(x)).toThrow('backward: no gradient can flow');
    x.requireGrad();
    expect(() => backward(x)).toThrow('backward: needs a scalar');
    const y = scope(() => x.square().sum());
    backward(y);
    expect(() => backward(y)).toThrow('the graph was used already');
    expect(() => scope(() => backward(unary('sign', x).sum()))).toThrow('sign: has no derivative');
    const z = scope(() => x.square());
    expect(() => z.requireGrad()).toThrow('only leaves can be trained');
    expect(() => scope(() => matmul(x.reshape([1, 2]), x.reshape([1, 2])))).toThrow(
      'matmul: inner sizes differ: a [1,2] f32, b [1,2] f32 (2 vs 1). Did you mean b.transpose()?',
    );
    for (const t of [y, z, x.grad!, x]) t.dispose();
  });

  test('saves only what a needed gradient reads', () => {
    const d = device();
    const frozen = keep(d.random([64, 64], { seed: 1 }));
    const x = keep(d.random([64, 64], { seed: 2 })).requireGrad();
    const before = d.memory().live;
    const y = scope(() => matmul(x, frozen)); // dx reads the frozen factor alone
    expect(d.memory().live - before).toBe(64 * 64 * 4);
    for (const t of [y, x, frozen]) t.dispose();
  });

  test('detach and noGrad stop gradients', async () => {
    const d = device();
    const x = keep(d.tensor([3])).requireGrad();
    const y = scope(() => x.detach().mul(x).sum());
    backward(y);
    expect(await x.grad!.item()).toBe(3);
    const z = noGrad(() => x.mul(2));
    expect(z.node).toBeUndefined();
    for (const t of [y, z, x.grad!, x]) t.dispose();
  });

  test('copies between views of one tensor', async () => {
    const d = device();
    const x = keep(d.tensor([1, 2, 3, 4]));
    scope(() => void copyInto(slice(x, 0, 0, 2), slice(x, 0, 2, 4)));
    expect([...(await x.toArray())]).toEqual([1, 2, 1, 2]);
    x.dispose();
  });
});
