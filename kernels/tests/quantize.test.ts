import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  codebooks,
  dynamicMap,
  fp4Bounds,
  fp4Codebook,
  fp4Codes,
  nf4Bounds,
  nf4Codebook,
} from '../common/codebooks.ts';
import { bf16ToF32, f16ToF32 } from '../common/half.ts';
import type { QuantType } from '../common/quant.ts';
import type { RefArray } from '../common/reference.ts';
import { reference as dequantize } from '../dequantize/reference.ts';
import { reference as quantize } from '../quantize/reference.ts';

const array = (dtype: RefArray['dtype'], data: ArrayLike<number>): RefArray => ({
  dtype,
  shape: [data.length],
  data: Float64Array.from(data),
});
const f32 = (data: ArrayLike<number>) => array('f32', Float32Array.from(data));

function run(
  x: RefArray,
  quantType: QuantType,
  blockSize: number,
  book: readonly number[] = codebooks[quantType],
  offset?: number,
) {
  return quantize(
    { x, codebook: f32(book), ...(offset === undefined ? {} : { offset: f32([offset]) }) },
    { quantType, blockSize },
  );
}

describe('check vectors of bitsandbytes', () => {
  const sine = f32(Float64Array.from({ length: 128 }, (_, i) => Math.sin(0.37 * i)));

  test('NF4 and FP4 of a sine in blocks of 64', () => {
    const nf4 = run(sine, 'nf4', 64);
    expect(Array.from(nf4.absmax.data)).toEqual([0.9975262880325317, 0.9990715980529785]);
    expect(Array.from(nf4.codes.data.slice(0, 16))).toEqual([
      123, 239, 255, 237, 149, 33, 0, 1, 55, 190, 255, 254, 217, 82, 16, 0,
    ]);
    const fp4 = run(sine, 'fp4', 64);
    expect(Array.from(fp4.codes.data.slice(0, 16))).toEqual([
      4, 35, 51, 37, 110, 218, 187, 186, 193, 66, 51, 50, 86, 237, 171, 187,
    ]);
  });

  test('double quantization of a growing sine', () => {
    const x = f32(Float64Array.from({ length: 256 }, (_, i) => Math.sin(0.37 * i) * (1 + 0.1 * Math.floor(i / 64))));
    const { absmax } = run(x, 'nf4', 64);
    const nested = run(absmax, 'int8', 256, dynamicMap, 1.149087905883789);
    expect(Array.from(nested.codes.data)).toEqual([0, 47, 207, 254]);
    expect(Array.from(nested.absmax.data)).toEqual([0.15156161785125732]);
  });

  test('zeros', () => {
    expect(Array.from(run(f32(new Float64Array(64)), 'nf4', 64).codes.data)).toEqual(new Array(32).fill(0x77));
    expect(Array.from(run(f32(new Float64Array(64)), 'nf4', 64).absmax.data)).toEqual([0]);
    expect(Array.from(run(f32(new Float64Array(4)), 'int8', 64).codes.data)).toEqual([0, 0, 0, 0]);
  });
});

/** fixtures/nf4: recorded from bitsandbytes by scripts/reference/nf4_vectors.py. */
const fixture = (name: string) => new URL(`../../fixtures/nf4/${name}`, import.meta.url);

function readSafetensors(file: URL): Map<string, Float64Array> {
  const bytes = readFileSync(file);
  const size = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + size).toString()) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const out = new Map<string, Float64Array>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const piece = Uint8Array.from(
      bytes.subarray(8 + size + entry.data_offsets[0], 8 + size + entry.data_offsets[1]),
    ).buffer;
    const values =
      entry.dtype === 'F32'
        ? new Float32Array(piece)
        : entry.dtype === 'U8'
          ? new Uint8Array(piece)
          : entry.dtype === 'BF16'
            ? bf16ToF32(new Uint16Array(piece))
            : f16ToF32(new Uint16Array(piece));
    out.set(name, Float64Array.from(values));
  }
  return out;
}

interface Recorded {
  key: string;
  input: string;
  quantType: 'nf4' | 'fp4' | 'dynamic' | 'dynamic-unsigned';
  blocksize: number;
  nested: boolean;
  nestedBlocksize?: number;
  offset?: number;
  count: number;
}

describe('recorded vectors of bitsandbytes', () => {
  const books = JSON.parse(readFileSync(fixture('codebooks.json'), 'utf8'));
  const tensors = readSafetensors(fixture('vectors.safetensors'));
  const { cases } = JSON.parse(readFileSync(fixture('vectors.json'), 'utf8')) as { cases: Recorded[] };

  test('codebooks and bounds are the same f32', () => {
    expect(nf4Codebook).toEqual(books.nf4.values);
    expect(nf4Bounds).toEqual(books.nf4.bounds.values);
    expect(fp4Codebook.map(Math.abs)).toEqual(books.fp4.values.map(Math.abs));
    expect(fp4Bounds).toEqual(books.fp4.bounds.values);
    expect(fp4Codes).toEqual(books.fp4.codeOfInterval);
    expect(dynamicMap).toEqual(books.dynamic.values);
  });

  test('codes, absmax and nested absmax are byte-equal, and so are the values they give back', () => {
    const book = (c: Recorded): readonly number[] => books[c.quantType].values;
    const wrong: string[] = [];
    const same = (ours: Float64Array, theirs: Float64Array | undefined) =>
      theirs?.length === ours.length && theirs.every((v, i) => v === ours[i]);
    for (const c of cases) {
      const type: QuantType = c.quantType === 'nf4' || c.quantType === 'fp4' ? c.quantType : 'int8';
      const input = tensors.get(`input.${c.input}`)!;
      const x = array('f32', c.quantType === 'dynamic-unsigned' ? input.map(Math.abs) : input);
      const ours = run(x, type, c.blocksize, book(c));
      let { absmax } = ours;
      let nested = {};
      if (c.nested) {
        const inner = run(absmax, 'int8', c.nestedBlocksize ?? 256, dynamicMap, c.offset);
        if (!same(inner.absmax.data, tensors.get(`${c.key}.nestedAbsmax`))) wrong.push(`${c.key} nestedAbsmax`);
        absmax = inner.codes;
        nested = { nestedAbsmax: inner.absmax, nestedCodebook: f32(dynamicMap), offset: f32([c.offset!]) };
      }
      if (!same(ours.codes.data, tensors.get(`${c.key}.codes`))) wrong.push(`${c.key} codes`);
      if (!same(absmax.data, tensors.get(`${c.key}.absmax`))) wrong.push(`${c.key} absmax`);
      for (const dtype of ['f32', 'f16', 'bf16'] as const) {
        const theirs = tensors.get(`${c.key}.dequantized.${dtype}`);
        if (!theirs || (c.nestedBlocksize ?? 256) !== 256) continue;
        const weight = { codes: ours.codes, absmax, codebook: f32(book(c)), ...nested };
        const { y } = dequantize({ weight }, { quantType: type, blockSize: c.blocksize, shape: [c.count], dtype });
        if (!same(y.data, theirs)) wrong.push(`${c.key} ${dtype}`);
      }
    }
    expect(cases.length).toBeGreaterThan(900);
    expect(wrong).toEqual([]);
  });
});
