import { describe, expect, test } from 'vitest';
import { reference as adamw } from '../adamw/reference.ts';
import { reference as attention } from '../attention/reference.ts';
import { castValue } from '../cast/reference.ts';
import { layOut } from '../common/cases.ts';
import type { DType } from '../common/dtype.ts';
import type { RefArray } from '../common/reference.ts';
import { reference as crossEntropy } from '../cross-entropy/reference.ts';
import { reference as gather } from '../gather/reference.ts';
import { reference as loraLinear } from '../lora-linear/reference.ts';
import { reference as matmul } from '../matmul/reference.ts';
import { reference as reduce } from '../reduce/reference.ts';
import { reference as rmsNorm } from '../rms-norm/reference.ts';
import { reference as rope } from '../rope/reference.ts';
import { reference as scatterAdd } from '../scatter-add/reference.ts';
import { reference as softmax } from '../softmax/reference.ts';
import { reference as swiglu } from '../swiglu/reference.ts';

/** Small results worked out by hand (or with the constants of a table), one op a test. */
const array = (shape: readonly number[], data: readonly number[], dtype: DType = 'f32'): RefArray => ({
  dtype,
  shape,
  data: Float64Array.from(data),
});
const near = (actual: RefArray | undefined, expected: readonly number[]) => {
  expect(actual!.data.length).toBe(expected.length);
  expected.forEach((e, i) => {
    const a = actual!.data[i]!;
    if (Number.isFinite(e)) expect(a).toBeCloseTo(e, 12);
    else expect(a).toBe(e);
  });
};

describe('softmax', () => {
  test('of ln 1, ln 2, ln 5', () =>
    near(softmax({ x: array([1, 3], [0, Math.LN2, Math.log(5)]) }, {}).y, [1 / 8, 2 / 8, 5 / 8]));
  test('a row of −∞ gives NaN, −∞ beside a number gives 0', () => {
    near(softmax({ x: array([2, 2], [-Infinity, -Infinity, 3, -Infinity]) }, {}).y, [NaN, NaN, 1, 0]);
  });
});

describe('attention', () => {
  const q = array([1, 2, 1, 1], [1, 1]);
  const k = array([1, 2, 1, 1], [0, Math.LN2]);
  const v = array([1, 2, 1, 1], [3, 6]);

  test('weights 1/3 and 2/3', () => {
    const { y, lse } = attention({ q, k, v }, { scale: 1, causal: false });
    near(y, [5, 5]);
    near(lse, [Math.log(3), Math.log(3)]);
  });
  test('causal: the first query sees the first key', () =>
    near(attention({ q, k, v }, { scale: 1, causal: true }).y, [3, 5]));
  test('ends before starts: nothing is seen', () => {
    const { y, lse } = attention(
      { q, k, v, starts: array([1, 2], [0, 1], 'i32'), ends: array([1, 2], [0, 2], 'i32') },
      { scale: 1, causal: false },
    );
    near(y, [0, 6]);
    near(lse, [-Infinity, Math.LN2]);
  });
  test('causal with fewer keys than queries: early queries see nothing', () => {
    near(
      attention({ q, k: array([1, 1, 1, 1], [0]), v: array([1, 1, 1, 1], [3]) }, { scale: 1, causal: true }).y,
      [0, 3],
    );
  });
  test('query heads 0 and 1 read key head 0, 2 and 3 key head 1', () => {
    const heads = attention(
      { q: array([1, 1, 4, 1], [1, 2, 3, 4]), k: array([1, 1, 2, 1], [1, 1]), v: array([1, 1, 2, 1], [7, 9]) },
      { scale: 1, causal: true },
    );
    near(heads.y, [7, 7, 9, 9]);
    near(heads.lse, [1, 2, 3, 4]);
  });
});

test('rmsNorm of (3, 4): root mean square √12.5', () => {
  const { y, rstd } = rmsNorm({ x: array([1, 2], [3, 4]), weight: array([2], [1, 2]) }, { eps: 0 });
  near(rstd, [1 / Math.sqrt(12.5)]);
  near(y, [3 / Math.sqrt(12.5), 8 / Math.sqrt(12.5)]);
});

test('rope turns (1, 0) by 90° into (0, 1), and copies what is beyond the rotary width', () => {
  const inputs = {
    x: array([1, 1, 1, 3], [1, 0, 5]),
    cos: array([2, 1], [1, 0]),
    sin: array([2, 1], [0, 1]),
    positions: array([1, 1], [1], 'i32'),
  };
  near(rope(inputs, { inverse: false }).y, [0, 1, 5]);
  near(rope(inputs, { inverse: true }).y, [0, -1, 5]);
});

test('swiglu: silu(ln 3) · 4 = ¾ · ln 3 · 4', () =>
  near(swiglu({ x: array([2], [Math.log(3), 4]) }, {}).y, [3 * Math.log(3)]));

test('crossEntropy of weights 1, 2, 5', () => {
  const inputs = {
    logits: array([2, 3], [0, Math.LN2, Math.log(5), 9, 9, 9]),
    labels: array([2], [1, -100], 'i32'),
    scale: array([1], [0.5]),
  };
  const { loss, dlogits } = crossEntropy(inputs, { gradient: true });
  near(loss, [Math.log(4), 0]);
  near(dlogits, [1 / 16, 0.5 * (2 / 8 - 1), 5 / 16, 0, 0, 0]);
  expect(crossEntropy(inputs, { gradient: false }).dlogits).toBeUndefined();
});

test('matmul with alpha, beta and c', () => {
  const y = matmul(
    { a: array([2, 2], [1, 2, 3, 4]), b: array([2, 2], [5, 6, 7, 8]), c: array([2, 2], [1, 1, 1, 1]) },
    { alpha: 2, beta: 10 },
  ).y;
  near(y, [48, 54, 96, 110]);
});

test('reduce: sums, extremes with NaN, first index of the largest', () => {
  const x = array([2, 3], [1, 5, 5, -2, NaN, 7]);
  near(reduce({ x }, { op: 'sum', axes: [0] }).y, [-1, NaN, 12]);
  near(reduce({ x }, { op: 'max', axes: [1] }).y, [5, NaN]);
  near(reduce({ x: array([2, 3], [1, 5, 5, 7, -2, 7]) }, { op: 'argmax', axes: [1] }).y, [1, 0]);
  near(reduce({ x: array([2, 2], [1, 2, 3, 4]) }, { op: 'sumSquares', axes: [0, 1] }).y, [30]);
});

test('gather gives zeros outside the table; scatterAdd adds repeated rows and skips outside ones', () => {
  const ids = array([3], [1, -1, 1], 'i32');
  near(gather({ table: array([2, 2], [1, 2, 3, 4]), ids }, {}).y, [3, 4, 0, 0, 3, 4]);
  near(scatterAdd({ into: array([2, 1], [10, 20]), ids, x: array([3, 1], [1, 2, 4]) }, {}).y, [10, 25]);
});

test('loraLinear: base, bias and scaled pair side by side', () => {
  const layers = [
    { weight: array([1, 2], [1, 1]), bias: array([1], [100]), a: array([1, 2], [1, -1]), b: array([1, 1], [3]) },
    { weight: array([1, 2], [0, 2]) },
  ];
  const { y, h } = loraLinear(
    { x: array([1, 2], [5, 2]), layers },
    { layers: [{ outFeatures: 1, scale: 2 }, { outFeatures: 1 }] },
  );
  near(h, [3]);
  near(y, [7 + 100 + 2 * 3 * 3, 4]);
});

test('adamw: the first step moves by lr against the sign of the gradient, after decay', () => {
  const inputs = { p: array([2], [1, 1]), g: array([2], [0.5, -3]), m: array([2], [0, 0]), v: array([2], [0, 0]) };
  const { p, m, v } = adamw(
    { ...inputs, hyper: array([4], [0.01, 0.1, 1 - 0.9, Math.sqrt(1 - 0.999)]) },
    { beta1: 0.9, beta2: 0.999, eps: 0 },
  );
  near(m, [0.05, -0.3]);
  near(v, [0.00025, 0.009]);
  near(p, [0.999 - 0.01, 0.999 + 0.01]);
});

test('cast truncates and saturates into integers, keeps low bits between them', () => {
  expect([NaN, 1e10, -1e10, -1.9, 2.9].map((x) => castValue(x, 'f32', 'i32'))).toEqual([
    0,
    2 ** 31 - 1,
    -(2 ** 31),
    -1,
    2,
  ]);
  expect([-5, 300, 255.9].map((x) => castValue(x, 'f32', 'u8'))).toEqual([0, 255, 255]);
  expect([-1, 257].map((x) => castValue(x, 'i32', 'u8'))).toEqual([255, 1]);
  expect(castValue(-1, 'i32', 'u32')).toBe(2 ** 32 - 1);
  expect(castValue(16777217, 'i32', 'f32')).toBe(16777216);
});

test('layouts of cases', () => {
  expect(layOut([2, 3], 'contiguous')).toEqual({ strides: [3, 1], start: 0, length: 6, broadcast: [] });
  expect(layOut([2, 3], 'sliced')).toEqual({ strides: [6, 1], start: 1, length: 13, broadcast: [] });
  expect(layOut([2, 3], 'transposed').strides).toEqual([1, 2]);
  expect(layOut([4], 'stepped')).toMatchObject({ strides: [2], start: 1 });
  expect(layOut([5, 3], { broadcast: [0] })).toMatchObject({ strides: [0, 1], length: 3 });
});
