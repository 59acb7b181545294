import { describe, expect, test } from 'vitest';
import {
  bf16Code,
  bf16ToF32,
  bf16Value,
  f16Code,
  f16ToF32,
  f16Value,
  f32ToBf16,
  f32ToF16,
  roundTo,
} from '../common/half.ts';

const codes = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The value of a code by the definition of the format: sign, exponent, fraction. */
function byDefinition(code: number, exponentBits: number, fractionBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = code >> 15 ? -1 : 1;
  const exponent = (code >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (code & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 2 ** exponentBits - 1) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

describe.each([
  { name: 'f16', exponent: 5, fraction: 10, value: f16Value, code: f16Code, widen: f16ToF32, narrow: f32ToF16 },
  { name: 'bf16', exponent: 8, fraction: 7, value: bf16Value, code: bf16Code, widen: bf16ToF32, narrow: f32ToBf16 },
])('$name', ({ name, exponent, fraction, value, code, widen, narrow }) => {
  const isNaNCode = (c: number) => (c & 0x7fff) > (2 ** exponent - 1) << fraction;

  test('every code has the value that the format defines', () => {
    const defined = Float32Array.from(codes, (c) => byDefinition(c, exponent, fraction));
    expect(Array.from(codes).filter((c) => !Object.is(value(c), defined[c]))).toEqual([]);
    expect(Array.from(widen(codes))).toEqual(Array.from(defined));
  });

  test('every code survives the way to f32 and back; NaN stays NaN, made quiet, of the same sign', () => {
    const back = narrow(widen(codes));
    const expected = (c: number) => (isNaNCode(c) ? c | (1 << (fraction - 1)) : c);
    expect(Array.from(codes).filter((c) => back[c] !== expected(c))).toEqual([]);
    expect(Array.from(codes).filter((c) => !isNaNCode(c) && code(value(c)) !== c)).toEqual([]);
  });

  test('between neighbours: nearest, and ties go to the even code', () => {
    const wrong: [number, number, number][] = [];
    const expectCode = (x: number, c: number) => {
      if (code(x) !== c) wrong.push([x, code(x), c]);
      if (code(-x) !== (c | 0x8000)) wrong.push([-x, code(-x), c | 0x8000]);
    };
    for (let c = 0; c < (2 ** exponent - 1) << fraction; c++) {
      const next = c + 1;
      const low = byDefinition(c, exponent, fraction);
      const above = byDefinition(next, exponent, fraction);
      // Above the largest number, the step leads to where the next one would lie.
      const high = Number.isFinite(above) ? above : 2 * 2 ** (2 ** (exponent - 1) - 1);
      const middle = (low + high) / 2;
      if (Math.fround(middle) === middle) expectCode(middle, c % 2 ? next : c);
      for (const part of [0.25, 0.4375, 0.5625, 0.75]) {
        const x = Math.fround(low + (high - low) * part);
        if (x > low && x < high && x !== middle) expectCode(x, x < middle ? c : next);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('signed zeros and infinities', () => {
    expect(code(-0)).toBe(0x8000);
    expect(Object.is(value(0x8000), -0)).toBe(true);
    expect(value(code(Infinity))).toBe(Infinity);
    expect(value(code(-3.4e38))).toBe(-Infinity);
    expect(code(NaN) & 0x7fff).toBeGreaterThan((2 ** exponent - 1) << fraction);
  });

  test('bulk forms write into a given array', () => {
    const out = new Uint16Array(3);
    expect(narrow(Float32Array.of(1, -2, 0.5), out)).toBe(out);
    expect(Array.from(widen(out, new Float32Array(3)))).toEqual([1, -2, 0.5]);
    expect(roundTo(1 + 2 ** -12, name as 'f16')).toBe(1);
  });
});

test('known codes', () => {
  expect([1, -2, 65504, 65519, 65520, 2 ** -14, 2 ** -24, 2 ** -25, 0.1].map(f16Code)).toEqual([
    0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 0x0400, 0x0001, 0x0000, 0x2e66,
  ]);
  expect([1, -2, Math.PI, 0.1, 1e-40].map(bf16Code)).toEqual([0x3f80, 0xc000, 0x4049, 0x3dcd, 0x0001]);
});

test('integers keep their low bits', () => {
  expect([roundTo(2 ** 31, 'i32'), roundTo(-1, 'u32'), roundTo(257, 'u8'), roundTo(-1, 'u8')]).toEqual([
    -(2 ** 31),
    2 ** 32 - 1,
    1,
    255,
  ]);
});
