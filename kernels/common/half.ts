import type { DType } from './dtype.ts';

/**
 * f16 and bf16 as IEEE 754 defines them. Codes are bit patterns; to f32 is exact; from f32 rounds to nearest, ties to even, overflows to
 * infinity, keeps subnormals and signed zeros, and keeps NaN a NaN (made quiet).
 */

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

function f16FromBits(b: number): number {
  const sign = (b >>> 16) & 0x8000;
  const abs = b & 0x7fffffff;
  if (abs > 0x7f800000) return sign | 0x7e00 | ((abs >>> 13) & 0x1ff);
  if (abs >= 0x477ff000) return sign | 0x7c00; // 65520 and above
  if (abs >= 0x38800000) return sign | ((abs - 0x38000000 + 0xfff + ((abs >>> 13) & 1)) >>> 13);
  if (abs <= 0x33000000) return sign; // half of the smallest subnormal ties to zero
  // Subnormal: the significand in units of 2⁻²⁴.
  const shift = 126 - (abs >>> 23);
  const significand = (abs & 0x7fffff) | 0x800000;
  const down = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (down + (rest > half || (rest === half && (down & 1) === 1) ? 1 : 0));
}

function f16ToBits(code: number): number {
  const sign = (code & 0x8000) << 16;
  const exponent = (code >>> 10) & 31;
  const fraction = code & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: shift the leading bit to the implicit place.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

function bf16FromBits(b: number): number {
  if ((b & 0x7fffffff) > 0x7f800000) return (b >>> 16) | 0x40;
  return ((b + 0x7fff + ((b >>> 16) & 1)) >>> 16) & 0xffff;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** The f16 code of a number (rounded to f32 first). */
export function f16Code(value: number): number {
  f32[0] = value;
  return f16FromBits(bits[0]!);
}

/** The number that an f16 code stands for. */
export function f16Value(code: number): number {
  bits[0] = f16ToBits(code);
  return f32[0]!;
}

/** The bf16 code of a number (rounded to f32 first). */
export function bf16Code(value: number): number {
  f32[0] = value;
  return bf16FromBits(bits[0]!);
}

/** The number that a bf16 code stands for. */
export function bf16Value(code: number): number {
  bits[0] = code << 16;
  return f32[0]!;
}

/** f32 to f16 codes. `out` is as long as `values`. */
export function f32ToF16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const from = bitsOf(values);
  for (let i = 0; i < from.length; i++) out[i] = f16FromBits(from[i]!);
  return out;
}

/** f16 codes to f32. `out` is as long as `codes`. */
export function f16ToF32(codes: Uint16Array, out: Float32Array = new Float32Array(codes.length)): Float32Array {
  const to = bitsOf(out); // as bits: a NaN's payload may not survive a JavaScript number
  for (let i = 0; i < codes.length; i++) to[i] = f16ToBits(codes[i]!);
  return out;
}

/** f32 to bf16 codes. `out` is as long as `values`. */
export function f32ToBf16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const from = bitsOf(values);
  for (let i = 0; i < from.length; i++) out[i] = bf16FromBits(from[i]!);
  return out;
}

/** bf16 codes to f32. `out` is as long as `codes`. */
export function bf16ToF32(codes: Uint16Array, out: Float32Array = new Float32Array(codes.length)): Float32Array {
  const to = bitsOf(out);
  for (let i = 0; i < codes.length; i++) to[i] = codes[i]! << 16;
  return out;
}

/** The nearest value that a float dtype holds, ties to even; integer dtypes keep the low bits of an integer. */
export function roundTo(value: number, dtype: DType): number {
  switch (dtype) {
    case 'f32':
      return Math.fround(value);
    case 'f16':
      return f16Value(f16Code(value));
    case 'bf16':
      return bf16Value(bf16Code(value));
    case 'i32':
      return value | 0;
    case 'u32':
      return value >>> 0;
    case 'u8':
      return value & 255;
  }
}
