import { describe, expect, test } from 'vitest';
import { blockOf, type DequantizableType, dequantizableTypes, dequantizeBlocks, quantizeBlocks } from '../src/index.ts';
import { fixture, formatError, jsonFixture } from './support.ts';

interface Record {
  cases: { type: DequantizableType; blocks: number; bytes: [number, number]; values: [number, number] }[];
}

const { cases } = jsonFixture<Record>('dequantize.json');
const pool = fixture('dequantize.bin');
const slice = ([offset, length]: [number, number]) => pool.slice(offset, offset + length);

describe('dequantizeBlocks', () => {
  test('every readable type has a record', () => {
    expect(cases.map(({ type }) => type)).toEqual([...dequantizableTypes]);
  });

  test.each(cases)('$type gives the bits of the gguf package on random bytes', ({ type, blocks, bytes, values }) => {
    const want = new Float32Array(slice(values).buffer);
    expect(want).toHaveLength(blocks * blockOf(type).elements);
    const got = dequantizeBlocks(type, slice(bytes));
    const [gotBits, wantBits] = [new Uint32Array(got.buffer), new Uint32Array(want.buffer)];
    const wrong: string[] = [];
    let nans = 0;
    for (let i = 0; i < want.length; i++) {
      if (Number.isNaN(want[i])) nans++;
      if (gotBits[i] !== wantBits[i] && !(Number.isNaN(got[i]) && Number.isNaN(want[i]))) {
        wrong.push(`${i}: ${got[i]} is not ${want[i]}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(nans).toBeLessThan(want.length / 4);
    expect(new Set(want).size).toBeGreaterThan(32);
  });

  test.each(cases)(
    '$type in pieces, from an odd address into the middle of an array, gives the same',
    ({ type, blocks, bytes }) => {
      const block = blockOf(type);
      const all = slice(bytes);
      const odd = new Uint8Array(all.length + 1).subarray(1);
      odd.set(all);
      const out = new Float32Array(blocks * block.elements + 2);
      for (let b = 0; b < blocks; b++) {
        const target = out.subarray(1 + b * block.elements, 1 + (b + 1) * block.elements);
        expect(dequantizeBlocks(type, odd.subarray(b * block.bytes, (b + 1) * block.bytes), target)).toBe(target);
      }
      expect(out.slice(1, -1)).toEqual(dequantizeBlocks(type, all));
      expect([out[0], out.at(-1)]).toEqual([0, 0]);
    },
  );

  test('no blocks give no values', () => {
    for (const type of dequantizableTypes) expect(dequantizeBlocks(type, new Uint8Array(0))).toHaveLength(0);
  });

  test('what is written from f32 is read back within what its type rounds', () => {
    const values = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i * 12.9898) * 3);
    const largest = (type: 'F32' | 'F16' | 'BF16' | 'Q8_0') =>
      dequantizeBlocks(type, quantizeBlocks(type, values)).reduce(
        (most, value, i) => Math.max(most, Math.abs(value - values[i]!)),
        0,
      );
    expect(largest('F32')).toBe(0);
    expect(largest('F16')).toBeLessThanOrEqual(2 ** -10);
    expect(largest('BF16')).toBeLessThanOrEqual(2 ** -7);
    // Half a step, and 127 times what the scale loses as f16.
    expect(largest('Q8_0')).toBeLessThan((3 / 127) * (0.5 + 127 * 2 ** -11));
  });

  test('sizes that do not fit', async () => {
    const message = async (...args: Parameters<typeof dequantizeBlocks>) =>
      (await formatError(() => dequantizeBlocks(...args))).message;
    expect(await message('Q4_0', new Uint8Array(19))).toContain(
      'Q4_0 has 32 values in 18 bytes; got 19 bytes for 32 values',
    );
    expect(await message('Q4_0', new Uint8Array(36), new Float32Array(32))).toContain('got 36 bytes for 32 values');
  });

  test.each(['IQ4_NL', 'TQ1_0', 'MXFP4', 'Q8_1', 'F64', 'I32'] as const)(
    '%s is refused by name, with what to do',
    async (type) => {
      const error = await formatError(() => dequantizeBlocks(type, new Uint8Array(blockOf(type).bytes)));
      expect(error.message).toContain(`must be one that can be dequantized: got ${type}`);
      expect(error.message).toContain('llama-quantize');
    },
  );

  test('a name that is no type', async () => {
    for (const type of ['Q4_2', 'toString'] as never[]) {
      expect((await formatError(() => dequantizeBlocks(type, new Uint8Array(0)))).message).toContain('must be known');
    }
  });
});
