// Small SIMD helpers that every WebAssembly kernel shares. One source serves two builds: with relaxed SIMD and without.

/** Element types as numbers in kernel arguments. The 4-bit and 8-bit codes come with absmax, a codebook and a block size. */
export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;
export const CODES4: i32 = 3;
export const CODES8: i32 = 4;

/** a·b + c: fused where the build has relaxed SIMD, rounded twice where it has not. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** c − a·b. */
// @ts-ignore: decorator
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** table[index] for bytes; indices are below 16. */
// @ts-ignore: decorator
@inline
export function lookup16(table: v128, index: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(table, index);
  return i8x16.swizzle(table, index);
}

/** Sum of the four lanes in a fixed order: (0 + 2) + (1 + 3). */
// @ts-ignore: decorator
@inline
export function hsum(v: v128): f32 {
  const t = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(t, 0) + f32x4.extract_lane(t, 1);
}

/** Largest lane; NaN if any is. */
// @ts-ignore: decorator
@inline
export function hmax(v: v128): f32 {
  const t = f32x4.max(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return max<f32>(f32x4.extract_lane(t, 0), f32x4.extract_lane(t, 1));
}

/** Smallest lane; NaN if any is. */
// @ts-ignore: decorator
@inline
export function hmin(v: v128): f32 {
  const t = f32x4.min(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return min<f32>(f32x4.extract_lane(t, 0), f32x4.extract_lane(t, 1));
}

// @ts-ignore: decorator
@inline
export function ldf(p: usize): f32 {
  return load<f32>(p);
}

// @ts-ignore: decorator
@inline
export function minI(a: i32, b: i32): i32 {
  return a < b ? a : b;
}

// @ts-ignore: decorator
@inline
export function maxI(a: i32, b: i32): i32 {
  return a > b ? a : b;
}
