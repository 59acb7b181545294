import { expect, test } from 'vitest';
import { philox, uniformFromBits } from '../common/philox.ts';
import { reference as dropout } from '../dropout/reference.ts';
import { reference as random } from '../random/reference.ts';

const hex = (words: readonly number[]) => words.map((w) => w.toString(16).padStart(8, '0')).join(' ');

/** The known answers that come with Random123. */
test('Philox4x32-10 gives the known answers', () => {
  const ones = 0xffffffff;
  expect(hex(philox([0, 0, 0, 0], [0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  expect(hex(philox([ones, ones, ones, ones], [ones, ones]))).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd');
  expect(hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]))).toBe(
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  );
});

const seed = (...words: number[]) => ({ seed: { dtype: 'u32', shape: [4], data: Float64Array.from(words) } }) as const;

test('element i takes word i & 3 of counter [i >> 2, site, step, stream]', () => {
  const bits = random(seed(11, 22, 33, 44), { shape: [3, 3], dtype: 'u32', distribution: 'bits', site: 55 }).y;
  const words = [0, 1, 2].flatMap((block) => philox([block, 55, 33, 44], [11, 22]));
  expect(Array.from(bits.data)).toEqual(words.slice(0, 9));
  const uniform = random(seed(11, 22, 33, 44), { shape: [9], dtype: 'f32', distribution: 'uniform', site: 55 }).y;
  expect(Array.from(uniform.data)).toEqual(words.slice(0, 9).map(uniformFromBits));
});

test('normal numbers have the moments of a normal distribution, and pairs lie on the circle of their words', () => {
  const { data } = random(seed(1, 0, 0, 0), { shape: [20000], dtype: 'f32', distribution: 'normal', site: 0 }).y;
  const mean = (f: (x: number) => number) => data.reduce((sum, x) => sum + f(x), 0) / data.length;
  // Standard errors: 1/√n, √2/√n, √15/√n, √96/√n; four of them.
  expect(Math.abs(mean((x) => x))).toBeLessThan(4 / Math.sqrt(20000));
  expect(Math.abs(mean((x) => x ** 2) - 1)).toBeLessThan(4 * Math.sqrt(2 / 20000));
  expect(Math.abs(mean((x) => x ** 3))).toBeLessThan(4 * Math.sqrt(15 / 20000));
  expect(Math.abs(mean((x) => x ** 4) - 3)).toBeLessThan(4 * Math.sqrt(96 / 20000));
  const [w0, w1] = philox([0, 0, 0, 0], [1, 0]);
  const r = Math.sqrt(-2 * Math.log(((w0 >>> 8) + 1) / 2 ** 24));
  expect(Math.hypot(data[0]!, data[1]!)).toBeCloseTo(r, 12);
  expect(Math.atan2(data[1]!, data[0]!)).toBeCloseTo(
    Math.atan2(Math.sin(2 * Math.PI * uniformFromBits(w1)), Math.cos(2 * Math.PI * uniformFromBits(w1))),
    12,
  );
});

test('dropout keeps the share 1 − p, scaled by 1/(1 − p), by the uniform numbers of the same site', () => {
  const x = { dtype: 'f32', shape: [10000], data: new Float64Array(10000).fill(3) } as const;
  const { y } = dropout({ x, ...seed(5, 6, 7, 8) }, { p: 0.25, site: 9 });
  const uniform = random(seed(5, 6, 7, 8), { shape: [10000], dtype: 'f32', distribution: 'uniform', site: 9 }).y;
  expect(y.data.every((v, i) => v === (uniform.data[i]! >= 0.25 ? 4 : 0))).toBe(true);
  const kept = y.data.filter((v) => v !== 0).length;
  expect(Math.abs(kept - 7500)).toBeLessThan(4 * Math.sqrt(10000 * 0.25 * 0.75));
});
