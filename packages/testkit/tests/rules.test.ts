import { type BinaryOp, binaryOps, type UnaryOp, unaryOps } from '@lowrank/kernels';
import {
  attention,
  binary,
  cast,
  concat,
  crossEntropy,
  Device,
  expand,
  gather,
  linearCrossEntropy,
  loraLinear,
  matmul,
  permute,
  reduce,
  reshape,
  rmsNorm,
  rope,
  scatterAdd,
  select,
  slice,
  softmax,
  split,
  swiglu,
  type Tensor,
  transpose,
  unary,
} from '@lowrank/tensor';
import { afterAll, describe, expect, test } from 'vitest';
import { checkGradient, type GradientInput, referenceBackend } from '../src/index.ts';

/** Every derivative rule of `@lowrank/tensor` against finite differences, on the reference backend, fused and decomposed. */
let state = 7;
const uniform = (low: number, high: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return low + ((high - low) * state) / 2 ** 32;
};
const input = (shape: readonly number[], low = -1, high = 1): GradientInput => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, () => uniform(low, high)),
});

describe.each(['auto', 'off'] as const)('fused %s', (fused) => {
  const device = new Device(referenceBackend(), { fused });
  const ints = (shape: readonly number[], ...data: number[]) => device.tensor(Int32Array.from(data), { shape });
  afterAll(async () => {
    await device.close();
  });
  const rule = (name: string, fn: (...inputs: Tensor[]) => Tensor, inputs: readonly GradientInput[]) =>
    test(name, async () => {
      const before = device.memory().live;
      await checkGradient(device, fn, inputs);
      expect(device.memory().live).toBe(before);
    });

  if (fused === 'auto') {
    /** Away from kinks and poles, where finite differences mean nothing. */
    const domain: Partial<Record<UnaryOp, readonly [number, number]>> = {
      log: [0.5, 2],
      sqrt: [0.5, 2],
      rsqrt: [0.5, 2],
      reciprocal: [0.5, 2],
      abs: [0.1, 1],
      relu: [0.1, 1],
    };
    for (const op of Object.keys(unaryOps) as UnaryOp[]) {
      if (unaryOps[op].vjp === 'none') continue;
      const [p, q] = op === 'clamp' ? [-2, 2] : [1.7, -0.3];
      rule(`unary ${op}`, (x) => unary(op, x, p, q), [input([2, 5], ...(domain[op] ?? [-1, 1]))]);
    }
    rule('unary relu and clamp, cut', (x) => unary('relu', x).add(unary('clamp', x, 0.5, 3)), [
      input([2, 5], -1, -0.1),
    ]);
    for (const op of Object.keys(binaryOps) as BinaryOp[]) {
      if (binaryOps[op].vjp === 'none') continue;
      rule(`binary ${op}`, (a, b) => binary(op, a, b), [input([2, 3], 0.5, 2), input([2, 3], 2.1, 3)]);
      rule(`binary ${op}, broadcast`, (a, b) => binary(op, a, b), [input([2, 1, 3], 2.1, 3), input([4, 1], 0.5, 2)]);
    }
    rule('select', (a, b) => select(device.tensor(Uint8Array.of(1, 0, 0, 1), { dtype: 'u8' }), a, b), [
      input([3, 4]),
      input([1, 4]),
    ]);
    for (const axes of [[0], [1, 2], [0, 1, 2]]) {
      rule(`reduce sum over ${axes}`, (x) => reduce('sum', x, axes), [input([2, 3, 4])]);
      rule(`reduce sumSquares over ${axes}`, (x) => reduce('sumSquares', x, axes, true), [input([2, 3, 4])]);
    }
    const spread = { shape: [2, 4], data: Float32Array.of(0.1, 0.9, -0.4, 0.5, -0.2, -0.9, 0.7, 0.3) };
    rule('reduce max', (x) => reduce('max', x, 1), [spread]);
    rule('reduce min', (x) => reduce('min', x, 0), [spread]);
    rule('matmul', (a, b) => matmul(a, b), [input([2, 3]), input([3, 4])]);
    rule('matmul with alpha, beta and c', (a, b, c) => matmul(a, b, { alpha: 0.5, beta: -2, c }), [
      input([2, 3]),
      input([3, 4]),
      input([2, 4]),
    ]);
    rule('matmul of broadcast batches', (a, b) => matmul(a, b), [input([2, 1, 2, 3]), input([3, 3, 2])]);
    rule('gather', (table) => gather(table, ints([3], 2, 0, 2)), [input([4, 3])]);
    rule('scatterAdd', (into, x) => scatterAdd(into, ints([3], 1, 3, 1), x), [input([4, 2]), input([3, 2])]);
    rule(
      'views',
      (x) =>
        permute(reshape(slice(x, 1, 1, 4), [3, 2]), [1, 0]).mul(
          transpose(slice(x, 0, 0, 1))
            .expand([5, 3])
            .slice(0, 3),
        ),
      [input([2, 5])],
    );
    rule('expand', (x) => expand(x, [2, 3, 4]).mul(device.random([2, 3, 4], { seed: 3 })), [input([3, 1])]);
    rule(
      'concat and split',
      (a, b) => {
        const [left, right] = split(concat([a, b], 1), [1, 4], 1);
        return right!.mul(left!);
      },
      [input([2, 3]), input([2, 2])],
    );
    rule('cast there and back', (x) => cast(cast(x, 'f32'), 'f32').square(), [input([3])]);
  }

  rule('softmax', (x) => softmax(x), [input([3, 5], -2, 2)]);
  rule('rmsNorm', (x, w) => rmsNorm(x, w, 1e-3), [input([2, 3, 4]), input([4], 0.5, 1.5)]);
  rule('swiglu', (x) => swiglu(x), [input([3, 8], -2, 2)]);
  rule(
    'rope',
    (x) => {
      const angles = device.tensor(Float32Array.of(0, 0, 0.4, 0.1, 0.8, 0.2), { shape: [3, 2] });
      return rope(x, unary('cos', angles), unary('sin', angles), ints([1, 2], 2, 1));
    },
    [input([1, 2, 2, 5])],
  );
  rule('attention, causal, grouped heads', (q, k, v) => attention(q, k, v), [
    input([1, 3, 2, 4]),
    input([1, 3, 1, 4]),
    input([1, 3, 1, 4]),
  ]);
  rule(
    'attention with starts and ends',
    (q, k, v) => attention(q, k, v, { causal: false, starts: ints([1, 3], 0, 1, 2), ends: ints([1, 3], 4, 3, 2) }),
    [input([1, 3, 2, 4]), input([1, 4, 2, 4]), input([1, 4, 2, 4])],
  );
  rule('crossEntropy', (x) => crossEntropy(x, ints([3], 2, -100, 0)), [input([3, 5], -2, 2)]);
  rule(
    'linearCrossEntropy, in chunks',
    (h, w) =>
      linearCrossEntropy(h, (rows) => matmul(rows, transpose(w)), ints([5], 2, -100, 0, 3, 1), { chunkRows: 2 }),
    [input([5, 3]), input([4, 3])],
  );
  rule(
    'loraLinear',
    (x, a, b, a2, b2) => {
      const layers = [
        { weight: device.random([3, 4], { seed: 1 }), a, b },
        { weight: device.random([2, 4], { seed: 2 }) },
        { weight: device.random([1, 4], { seed: 3 }), a: a2, b: b2 },
      ];
      const { y, h } = loraLinear(
        { x, layers },
        { layers: [{ outFeatures: 3, scale: 2 }, { outFeatures: 2 }, { outFeatures: 1, scale: 0.5 }] },
      );
      h.dispose();
      return y;
    },
    [input([5, 4]), input([2, 4]), input([3, 2]), input([1, 4]), input([1, 1])],
  );
});

test('a wrong rule is found', async () => {
  const device = new Device(referenceBackend());
  const wrong = (x: Tensor) => x.detach().mul(x); // claims x instead of 2x
  await expect(checkGradient(device, wrong, [input([3], 0.5, 1)])).rejects.toThrow(/directions differ: input 0/);
  await device.close();
});
