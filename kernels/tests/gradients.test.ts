import { describe, expect, test } from 'vitest';
import { reference as attention } from '../attention/reference.ts';
import { reference as attentionBackward } from '../attention-backward/reference.ts';
import { codebooks } from '../common/codebooks.ts';
import type { DType } from '../common/dtype.ts';
import type { RefArray } from '../common/reference.ts';
import { reference as crossEntropy } from '../cross-entropy/reference.ts';
import { reference as loraLinear } from '../lora-linear/reference.ts';
import { reference as loraLinearBackward } from '../lora-linear-backward/reference.ts';
import { reference as quantMatmul } from '../quant-matmul/reference.ts';
import { reference as rmsNorm } from '../rms-norm/reference.ts';
import { reference as rmsNormBackward } from '../rms-norm-backward/reference.ts';
import { reference as rope } from '../rope/reference.ts';
import { reference as softmax } from '../softmax/reference.ts';
import { reference as softmaxBackward } from '../softmax-backward/reference.ts';
import { reference as swiglu } from '../swiglu/reference.ts';
import { reference as swigluBackward } from '../swiglu-backward/reference.ts';

/** Backward references against central differences of the forward ones, in f64. */
let state = 1;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 31 - 1;
};
const array = (shape: readonly number[], dtype: DType = 'f32', f: (i: number) => number = random): RefArray => ({
  dtype,
  shape,
  data: Float64Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => f(i)),
});
const dot = (a: RefArray, b: RefArray) => a.data.reduce((sum, v, i) => sum + v * b.data[i]!, 0);

/** d loss / d x for every element. */
function expectGradient(loss: () => number, x: RefArray, gradient: RefArray | undefined): void {
  expect(gradient!.shape).toEqual(x.shape);
  const step = 1e-5;
  for (let i = 0; i < x.data.length; i++) {
    const at = x.data[i]!;
    x.data[i] = at + step;
    const up = loss();
    x.data[i] = at - step;
    const down = loss();
    x.data[i] = at;
    expect(gradient!.data[i]).toBeCloseTo((up - down) / (2 * step), 7);
  }
}

test('softmax', () => {
  const x = array([3, 5]);
  const dy = array([3, 5]);
  const { dx } = softmaxBackward({ dy, y: softmax({ x }, {}).y }, {});
  expectGradient(() => dot(softmax({ x }, {}).y, dy), x, dx);
});

test('rmsNorm', () => {
  const x = array([2, 3, 5]);
  const weight = array([5]);
  const dy = array([2, 3, 5]);
  const loss = () => dot(rmsNorm({ x, weight }, { eps: 1e-3 }).y, dy);
  const { rstd } = rmsNorm({ x, weight }, { eps: 1e-3 });
  const { dx, dweight } = rmsNormBackward({ dy, x, weight, rstd }, { needWeight: true });
  expectGradient(loss, x, dx);
  expectGradient(loss, weight, dweight);
});

test('swiglu', () => {
  const x = array([3, 8]);
  const dy = array([3, 4]);
  expectGradient(() => dot(swiglu({ x }, {}).y, dy), x, swigluBackward({ dy, x }, {}).dx);
});

test('rope: the inverse is the backward pass', () => {
  const x = array([1, 3, 2, 6]);
  const dy = array([1, 3, 2, 6]);
  const angles = array([4, 2]);
  const tables = {
    cos: { ...angles, data: angles.data.map(Math.cos) },
    sin: { ...angles, data: angles.data.map(Math.sin) },
  };
  const positions = array([1, 3], 'i32', (i) => [3, 0, 1][i]!);
  const turn = (t: RefArray, inverse: boolean) => rope({ x: t, ...tables, positions }, { inverse }).y;
  expectGradient(() => dot(turn(x, false), dy), x, turn(dy, true));
});

test('crossEntropy', () => {
  const logits = array([4, 5]);
  const labels = array([4], 'i32', (i) => [2, -100, 0, 4][i]!);
  const scale = array([1], 'f32', () => 0.3);
  const sum = () => 0.3 * crossEntropy({ logits, labels }, { gradient: false }).loss.data.reduce((s, v) => s + v, 0);
  expectGradient(sum, logits, crossEntropy({ logits, labels, scale }, { gradient: true }).dlogits);
});

describe.each([
  { name: 'causal, grouped heads', tq: 4, tk: 4, causal: true },
  { name: 'more keys than queries', tq: 2, tk: 5, causal: true },
  { name: 'more queries than keys', tq: 5, tk: 3, causal: true },
  {
    name: 'starts and ends',
    tq: 4,
    tk: 5,
    causal: false,
    starts: [0, 1, 2, 4, 0, 0, 3, 3],
    ends: [5, 3, 2, 5, 1, 0, 5, 4],
  },
])('attention: $name', ({ tq, tk, causal, starts, ends }) => {
  test('dq, dk, dv', () => {
    const q = array([2, tq, 4, 3]);
    const k = array([2, tk, 2, 3]);
    const v = array([2, tk, 2, 3]);
    const ranges = {
      ...(starts ? { starts: array([2, tq], 'i32', (i) => starts[i]!) } : {}),
      ...(ends ? { ends: array([2, tq], 'i32', (i) => ends[i]!) } : {}),
    };
    const attrs = { scale: 0.7, causal };
    const dy = array([2, tq, 4, 3]);
    const loss = () => dot(attention({ q, k, v, ...ranges }, attrs).y, dy);
    const { dq, dk, dv } = attentionBackward(
      { dy, q, k, v, ...ranges, ...attention({ q, k, v, ...ranges }, attrs) },
      attrs,
    );
    expectGradient(loss, q, dq);
    expectGradient(loss, k, dk);
    expectGradient(loss, v, dv);
  });
});

const quantized = (n: number, k: number) => ({
  attrs: { quantType: 'nf4', blockSize: 32, shape: [n, k] } as const,
  weight: {
    codes: array([Math.ceil((n * k) / 2)], 'u8', () => Math.floor((random() + 1) * 127)),
    absmax: array([Math.ceil((n * k) / 32)], 'f32', () => 1 + random() / 2),
    codebook: array([16], 'f32', (i) => codebooks.nf4[i]!),
  },
});

test('quantMatmul: transposed is the backward pass for x', () => {
  const { attrs, weight } = quantized(7, 9);
  const x = array([3, 9]);
  const dy = array([3, 7]);
  const y = () => dot(quantMatmul({ x, weight }, { ...attrs, transposed: false }).y, dy);
  expectGradient(y, x, quantMatmul({ x: dy, weight }, { ...attrs, transposed: true }).y);
});

test('loraLinear: a group of a dense layer with a pair, a quantized one with a pair, and one without', () => {
  const x = array([3, 9]);
  const quant = quantized(7, 9);
  const layers = [
    { weight: array([4, 9]), bias: array([4]), a: array([2, 9]), b: array([4, 2]) },
    { quant: quant.weight, a: array([3, 9]), b: array([7, 3]) },
    { weight: array([2, 9]) },
  ];
  const attrs = {
    layers: [{ outFeatures: 4, scale: 0.5 }, { outFeatures: 7, scale: 2, quant: quant.attrs }, { outFeatures: 2 }],
  };
  const dy = array([3, 13]);
  const loss = () => dot(loraLinear({ x, layers }, attrs).y, dy);
  const { h } = loraLinear({ x, layers }, attrs);
  const { dx, da, db } = loraLinearBackward({ dy, x, h, layers }, { ...attrs, needX: true });
  expectGradient(loss, x, dx);
  for (const i of [0, 1]) {
    expectGradient(loss, layers[i]!.a!, da[i]);
    expectGradient(loss, layers[i]!.b!, db[i]);
  }
  expect(loraLinearBackward({ dy, x, h, layers }, { ...attrs, needX: false }).dx).toBeUndefined();
});
