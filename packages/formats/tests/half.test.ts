import { describe, expect, test } from 'vitest';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, quantizeBlocks } from '../src/index.ts';
import { fixture, formatError, jsonFixture } from './support.ts';

interface Record {
  halves: { values: [number, number]; f16: [number, number]; bf16: [number, number] };
  q8_0: { values: [number, number]; bytes: [number, number] };
}

const record = jsonFixture<Record>('quantize.json');
const pool = fixture('quantize.bin');
const slice = ([offset, length]: [number, number]) => pool.slice(offset, offset + length);
const values = new Float32Array(slice(record.halves.values).buffer);

const isNaN16 = (bits: number) => (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
const isNaNBf16 = (bits: number) => (bits & 0x7f80) === 0x7f80 && (bits & 0x7f) !== 0;

/** Differences other than in the payload of a NaN. */
function differences(got: Uint16Array, want: Uint16Array, nan: (bits: number) => boolean): string[] {
  const all: string[] = [];
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [got[i]!, want[i]!];
    if (a !== b && !(nan(a) && nan(b) && a >> 15 === b >> 15)) all.push(`${values[i]}: ${a} is not ${b}`);
  }
  return all;
}

describe('half precision', () => {
  test('f32 to f16 gives the bits that numpy gives', () => {
    const want = new Uint16Array(slice(record.halves.f16).buffer);
    expect(want.length).toBe(values.length);
    expect(differences(f32ToF16(values), want, isNaN16)).toEqual([]);
  });

  test('f32 to bf16 gives the bits that ggml gives', () => {
    const want = new Uint16Array(slice(record.halves.bf16).buffer);
    expect(differences(f32ToBf16(values), want, isNaNBf16)).toEqual([]);
  });

  test('every f16 but a NaN comes back from f32; a NaN stays one, with its sign', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const wide = f16ToF32(all);
    const back = f32ToF16(wide);
    for (const half of all) {
      if (isNaN16(half)) {
        expect(Number.isNaN(wide[half])).toBe(true);
        expect(isNaN16(back[half]!) && back[half]! >> 15 === half >> 15).toBe(true);
      } else expect(back[half]).toBe(half);
    }
    expect([wide[1], wide[0x3c00], wide[0x7bff], wide[0xfc00]]).toEqual([2 ** -24, 1, 65504, Number.NEGATIVE_INFINITY]);
  });

  test('every bf16 but a signalling NaN comes back from f32', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const back = f32ToBf16(bf16ToF32(all));
    for (const half of all) expect(back[half]).toBe(isNaNBf16(half) ? half | 0x40 : half);
  });

  test('out of another length is refused', () => {
    expect(() => f32ToF16(new Float32Array(3), new Uint16Array(2))).toThrow('convert: out must be as long');
  });
});

describe('quantizeBlocks', () => {
  const ordinary = new Float32Array(slice(record.q8_0.values).buffer);

  test('Q8_0 gives the bytes that ggml gives', () => {
    expect(quantizeBlocks('Q8_0', ordinary)).toEqual(slice(record.q8_0.bytes));
  });

  test('values whose reciprocal scale overflows become zero', () => {
    expect(quantizeBlocks('Q8_0', new Float32Array(32).fill(1e-42))).toEqual(new Uint8Array(34));
  });

  test.each([
    ['values must be whole blocks of 32', new Float32Array(31)],
    ['value 5 is NaN', Float32Array.from({ length: 32 }, (_, i) => (i === 5 ? Number.NaN : 0))],
    ['value 0 is Infinity', new Float32Array(32).fill(Number.POSITIVE_INFINITY)],
    ['value 0 is 8388608', new Float32Array(32).fill(2 ** 23)],
  ])('Q8_0 refuses: %s', async (message, bad) => {
    expect((await formatError(() => quantizeBlocks('Q8_0', bad))).message).toContain(message);
  });

  test('a type that cannot be written is named', async () => {
    const error = await formatError(() => quantizeBlocks('Q4_K' as 'Q8_0', ordinary));
    expect(error.message).toContain('got "Q4_K"');
  });
});
