const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** f32 to bf16 codes: nearest, ties to even; NaN stays NaN. */
export function f32ToBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const b = bits[i]!;
    out[i] = (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

export function bf16ToF32(codes: Uint16Array): Float32Array {
  const out = new Float32Array(codes.length);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return out;
}

function toHalf(value: number): number {
  f32[0] = value;
  const b = u32[0]!;
  const sign = (b >>> 16) & 0x8000;
  const abs = b & 0x7fffffff;
  if (abs > 0x7f800000) return sign | 0x7e00 | ((abs >>> 13) & 0x3ff);
  if (abs >= 0x477ff000) return sign | 0x7c00; // rounds past 65504
  if (abs >= 0x38800000) return sign | ((abs - 0x38000000 + 0xfff + ((abs >>> 13) & 1)) >>> 13);
  if (abs < 0x33000000) return sign; // below half of the smallest subnormal
  const shift = 126 - (abs >>> 23); // value = mantissa · 2^-(shift+…): bring to units of 2^-24
  const mantissa = (abs & 0x7fffff) | 0x800000;
  const down = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (down + (rest > half || (rest === half && (down & 1)) ? 1 : 0));
}

/** f32 to IEEE half codes: nearest, ties to even; overflow to infinity; subnormals kept; NaN stays NaN. */
export function f32ToF16(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = toHalf(values[i]!);
  return out;
}

export function f16ToF32(codes: Uint16Array): Float32Array {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const h = codes[i]!;
    const exponent = (h >>> 10) & 31;
    const mantissa = h & 0x3ff;
    const abs = exponent === 0 ? mantissa * 2 ** -24 : exponent === 31 ? (mantissa ? NaN : Infinity) : (1 + mantissa / 1024) * 2 ** (exponent - 15);
    out[i] = h & 0x8000 ? -abs : abs;
  }
  return out;
}
