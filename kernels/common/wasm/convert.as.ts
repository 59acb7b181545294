// f16 and bf16 to and from f32. Rounding is to nearest, ties to even; infinities and NaNs stay what they are.
import { BF16, F16, F32 } from './simd.as';

@inline
export function bf16ToF32(h: u32): f32 {
  return reinterpret<f32>(h << 16);
}

/** Shifting the fields into place leaves the exponent 112 too small; one exact multiplication repairs it, subnormals included. */
@inline
export function f16ToF32(h: u32): f32 {
  const magnitude: u32 = (h & 0x7fff) << 13;
  let bits: u32 = reinterpret<u32>(reinterpret<f32>(magnitude) * reinterpret<f32>(0x77800000));
  if (magnitude >= 0x0f800000) bits |= 0x7f800000;
  return reinterpret<f32>(bits | ((h & 0x8000) << 16));
}

@inline
export function f32ToBf16(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >> 16) | 0x40;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

@inline
export function f32ToF16(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const sign: u32 = (bits >> 16) & 0x8000;
  const magnitude: u32 = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Below 2^-14 the addition of 0.5 makes the hardware round to the subnormal step.
  if (magnitude < 0x38800000) return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000);
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

/** Four f16 in the low halves of 32-bit lanes to f32. */
@inline
export function f16x4ToF32(h: v128): v128 {
  const magnitude = i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13);
  const scaled = f32x4.mul(magnitude, f32x4.splat(reinterpret<f32>(0x77800000)));
  const special = v128.and(i32x4.ge_s(magnitude, i32x4.splat(0x0f800000)), i32x4.splat(0x7f800000));
  return v128.or(v128.or(scaled, special), i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16));
}

/** Four f32 to f16 in the low halves of 32-bit lanes. */
@inline
export function f32x4ToF16(x: v128): v128 {
  const sign = v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000));
  const m = v128.and(x, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(m, 13), i32x4.splat(1));
  let r = i32x4.shr_u(i32x4.add(i32x4.add(m, i32x4.splat(0xfff - 0x38000000)), odd), 13);
  const small = i32x4.sub(f32x4.add(m, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  r = v128.bitselect(small, r, i32x4.lt_s(m, i32x4.splat(0x38800000)));
  r = v128.bitselect(i32x4.splat(0x7c00), r, i32x4.ge_s(m, i32x4.splat(0x477ff000)));
  const nan = v128.or(i32x4.splat(0x7e00), v128.and(i32x4.shr_u(m, 13), i32x4.splat(0x3ff)));
  r = v128.bitselect(nan, r, i32x4.gt_s(m, i32x4.splat(0x7f800000)));
  return v128.or(r, sign);
}

/** Four f32 to bf16 in the low halves of 32-bit lanes. */
@inline
export function f32x4ToBf16(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
  const r = i32x4.shr_u(i32x4.add(i32x4.add(x, i32x4.splat(0x7fff)), odd), 16);
  const nan = v128.or(i32x4.shr_u(x, 16), i32x4.splat(0x40));
  return v128.bitselect(nan, r, f32x4.ne(x, x));
}

/** dst[i] = f32(src[i]) for f16. */
export function widenF16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (<usize>i << 2), f16x4ToF32(v128.load_ext<u16>(src + (<usize>i << 1))));
  for (; i < n; i++) store<f32>(dst + (<usize>i << 2), f16ToF32(load<u16>(src + (<usize>i << 1))));
}

/** dst[i] = f32(src[i]) for bf16. */
export function widenBf16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const h = v128.load(src + (<usize>i << 1));
    const zero = i32x4.splat(0);
    v128.store(dst + (<usize>i << 2), v128.shuffle<i16>(zero, h, 0, 8, 1, 9, 2, 10, 3, 11));
    v128.store(dst + (<usize>i << 2), v128.shuffle<i16>(zero, h, 4, 12, 5, 13, 6, 14, 7, 15), 16);
  }
  for (; i < n; i++) store<f32>(dst + (<usize>i << 2), bf16ToF32(load<u16>(src + (<usize>i << 1))));
}

/** dst[i] = f16(src[i]). */
export function narrowF16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const a = f32x4ToF16(v128.load(src + (<usize>i << 2)));
    const b = f32x4ToF16(v128.load(src + (<usize>i << 2), 16));
    v128.store(dst + (<usize>i << 1), i16x8.narrow_i32x4_u(a, b));
  }
  for (; i < n; i++) store<u16>(dst + (<usize>i << 1), <u16>f32ToF16(load<f32>(src + (<usize>i << 2))));
}

/** dst[i] = bf16(src[i]). */
export function narrowBf16(dst: usize, src: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const a = f32x4ToBf16(v128.load(src + (<usize>i << 2)));
    const b = f32x4ToBf16(v128.load(src + (<usize>i << 2), 16));
    v128.store(dst + (<usize>i << 1), i16x8.narrow_i32x4_u(a, b));
  }
  for (; i < n; i++) store<u16>(dst + (<usize>i << 1), <u16>f32ToBf16(load<f32>(src + (<usize>i << 2))));
}

/** Element `i` of a dense float array. */
@inline
export function loadFloat(type: i32, p: usize, i: i32): f32 {
  if (type == F32) return load<f32>(p + (<usize>i << 2));
  const h = <u32>load<u16>(p + (<usize>i << 1));
  return type == BF16 ? bf16ToF32(h) : f16ToF32(h);
}

/** log2 of the bytes of a dense float. */
@inline
export function shiftOf(type: i32): i32 {
  return type == F32 ? 2 : 1;
}

/** dst[i] = f32(src[i]) for a dense float type other than f32. */
@inline
export function widen(type: i32, dst: usize, src: usize, n: i32): void {
  if (type == F16) widenF16(dst, src, n);
  else widenBf16(dst, src, n);
}
