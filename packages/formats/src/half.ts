/**
 * Half-precision conversions in bulk. Halves are their bit patterns in a `Uint16Array`. To f32 is exact; from f32 rounds ties to
 * even, overflows to infinity, and keeps NaN a NaN (made quiet, top payload bits kept), as IEEE 754 hardware does.
 */

let table: Float32Array | undefined;

/** All 65,536 f16 values as f32 (256 KiB, made once). */
export function f16Table(): Float32Array {
  if (table === undefined) {
    const bits = new Uint32Array(65_536);
    for (let half = 0; half < 65_536; half++) bits[half] = f16BitsToF32Bits(half);
    table = new Float32Array(bits.buffer);
  }
  return table;
}

/** f16 bits → f32. `out` must be as long as `halves`. */
export function f16ToF32(halves: Uint16Array, out: Float32Array = new Float32Array(halves.length)): Float32Array {
  checkLength(halves.length, out.length);
  // Copied as bits: a NaN's payload may not survive a trip through a JavaScript number.
  const source = bits32(f16Table());
  const target = bits32(out);
  for (let i = 0; i < halves.length; i++) target[i] = source[halves[i]!]!;
  return out;
}

/** f32 → f16 bits. `out` must be as long as `values`. */
export function f32ToF16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  checkLength(values.length, out.length);
  const source = bits32(values);
  for (let i = 0; i < source.length; i++) out[i] = f32BitsToF16Bits(source[i]!);
  return out;
}

/** bf16 bits → f32. `out` must be as long as `halves`. */
export function bf16ToF32(halves: Uint16Array, out: Float32Array = new Float32Array(halves.length)): Float32Array {
  checkLength(halves.length, out.length);
  const target = bits32(out);
  for (let i = 0; i < halves.length; i++) target[i] = halves[i]! << 16;
  return out;
}

/** f32 → bf16 bits. `out` must be as long as `values`. */
export function f32ToBf16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  checkLength(values.length, out.length);
  const source = bits32(values);
  for (let i = 0; i < source.length; i++) {
    const bits = source[i]!;
    const nan = (bits & 0x7fff_ffff) > 0x7f80_0000;
    out[i] = nan ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return out;
}

function bits32(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function checkLength(from: number, to: number): void {
  if (from !== to) throw new RangeError(`convert: out must be as long as the input: ${to} and ${from} elements.`);
}

function f16BitsToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f80_0000 | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: fraction · 2⁻²⁴, made normal by shifting its leading bit to the implicit place.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

function f32BitsToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff);
  if (magnitude >= 0x4780_0000) return sign | 0x7c00;
  if (magnitude >= 0x3880_0000) {
    // Normal: rebias the exponent, add half an ulp (less one when even); a carry walks into the exponent, up to infinity.
    const rebiased = magnitude - 0x3800_0000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  const exponent = magnitude >>> 23;
  if (exponent < 102) return sign;
  const significand = (magnitude & 0x7f_ffff) | 0x80_0000;
  const shift = 126 - exponent;
  const floor = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (floor + (rest > half || (rest === half && (floor & 1) === 1) ? 1 : 0));
}
