import { FormatError } from '../error.ts';
import { bf16ToF32, f16Table, f16ToF32 } from '../half.ts';
import { aligned } from '../source.ts';
import { dequantizeQ2K, dequantizeQ3K, dequantizeQ4K, dequantizeQ5K, dequantizeQ6K } from './dequantize-k.ts';
import type { DequantizableType, GgufType } from './types.ts';
import { blockOf, isDequantizable, unsupportedType } from './types.ts';

/**
 * Turns whole blocks of `bytes`, which fill `out` exactly. Products of an f16 scale and small integers are exact in f32, so a rule
 * `d·q + m` rounds once, when stored, as in f32 arithmetic.
 */
export type BlockDequantizer = (bytes: Uint8Array, out: Float32Array) => void;

const dequantizers: Record<DequantizableType, BlockDequantizer> = {
  F32: (bytes, out) => new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes),
  F16: (bytes, out) => f16ToF32(halves(bytes), out),
  BF16: (bytes, out) => bf16ToF32(halves(bytes), out),
  Q4_0: dequantizeQ4_0,
  Q4_1: dequantizeQ4_1,
  Q5_0: dequantizeQ5_0,
  Q5_1: dequantizeQ5_1,
  Q8_0: dequantizeQ8_0,
  Q2_K: dequantizeQ2K,
  Q3_K: dequantizeQ3K,
  Q4_K: dequantizeQ4K,
  Q5_K: dequantizeQ5K,
  Q6_K: dequantizeQ6K,
};

/**
 * The f32 values of whole ggml blocks, bit for bit those of llama.cpp's `gguf.quants.dequantize` (NaNs stay NaN, with a payload that
 * may differ). `bytes` must be whole blocks and `out`, where given, exactly their elements. Returns `out`.
 * Throws `FormatError` for sizes that do not fit and for types that cannot be dequantized.
 */
export function dequantizeBlocks(type: GgufType, bytes: Uint8Array, out?: Float32Array): Float32Array {
  const block = blockOf(type);
  if (!isDequantizable(type)) throw unsupportedType(type, 'dequantizeBlocks');
  const blocks = bytes.byteLength / block.bytes;
  const target = out ?? new Float32Array(Math.floor(blocks) * block.elements);
  if (!Number.isInteger(blocks) || target.length !== blocks * block.elements) {
    throw new FormatError('gguf', 'bytes must be whole blocks that fill out', {
      file: 'dequantizeBlocks',
      facts: `${type} has ${block.elements} values in ${block.bytes} bytes; got ${bytes.byteLength} bytes for ${target.length} values`,
    });
  }
  dequantizers[type](bytes, target);
  return target;
}

function halves(bytes: Uint8Array): Uint16Array {
  const even = aligned(bytes, 2);
  return new Uint16Array(even.buffer, even.byteOffset, even.byteLength / 2);
}

/** 18 bytes: d f16, then 16 bytes of which the low nibbles are values 0–15, the high ones 16–31. y = d·(q − 8). */
function dequantizeQ4_0(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 18, o += 32) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 2 + i]!;
      out[o + i] = d * ((q & 15) - 8);
      out[o + i + 16] = d * ((q >> 4) - 8);
    }
  }
}

/** 20 bytes: d, m f16, nibbles as in Q4_0. y = d·q + m. */
function dequantizeQ4_1(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 20, o += 32) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const m = f16[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 4 + i]!;
      out[o + i] = d * (q & 15) + m;
      out[o + i + 16] = d * (q >> 4) + m;
    }
  }
}

/** 22 bytes: d f16, 32 fifth bits, nibbles as in Q4_0. y = d·(q − 16). */
function dequantizeQ5_0(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 22, o += 32) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const high = bytes[at + 2]! | (bytes[at + 3]! << 8) | (bytes[at + 4]! << 16) | (bytes[at + 5]! << 24);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 6 + i]!;
      out[o + i] = d * (((q & 15) | (((high >>> i) & 1) << 4)) - 16);
      out[o + i + 16] = d * (((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
    }
  }
}

/** 24 bytes: d, m f16, 32 fifth bits, nibbles as in Q4_0. y = d·q + m. */
function dequantizeQ5_1(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 24, o += 32) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    const m = f16[bytes[at + 2]! | (bytes[at + 3]! << 8)]!;
    const high = bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 8 + i]!;
      out[o + i] = d * ((q & 15) | (((high >>> i) & 1) << 4)) + m;
      out[o + i + 16] = d * ((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m;
    }
  }
}

/** 34 bytes: d f16, 32 signed bytes. y = d·q. */
function dequantizeQ8_0(bytes: Uint8Array, out: Float32Array): void {
  const f16 = f16Table();
  for (let at = 0, o = 0; o < out.length; at += 34, o += 32) {
    const d = f16[bytes[at]! | (bytes[at + 1]! << 8)]!;
    for (let i = 0; i < 32; i++) out[o + i] = d * ((bytes[at + 2 + i]! << 24) >> 24);
  }
}
