// Small SIMD helpers that every WebAssembly kernel shares. One source serves two builds: with relaxed SIMD and without.

/** Element types as numbers in kernel arguments. The 4-bit and 8-bit codes come with absmax, a codebook and a block size. */
export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;
export const CODES4: i32 = 3;
export const CODES8: i32 = 4;
export const I32: i32 = 5;
export const U32: i32 = 6;
export const U8: i32 = 7;

/** a·b + c: fused where the build has relaxed SIMD, rounded twice where it has not. */
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** c − a·b. */
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** table[index] for bytes; indices are below 16. */
@inline
export function lookup16(table: v128, index: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(table, index);
  return i8x16.swizzle(table, index);
}

/** Sum of the four lanes in a fixed order: (0 + 2) + (1 + 3). */
@inline
export function hsum(v: v128): f32 {
  const t = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(t, 0) + f32x4.extract_lane(t, 1);
}

/** Largest lane; NaN if any is. */
@inline
export function hmax(v: v128): f32 {
  const t = f32x4.max(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return max<f32>(f32x4.extract_lane(t, 0), f32x4.extract_lane(t, 1));
}

/** Smallest lane; NaN if any is. */
@inline
export function hmin(v: v128): f32 {
  const t = f32x4.min(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return min<f32>(f32x4.extract_lane(t, 0), f32x4.extract_lane(t, 1));
}

/** Stores the first `count` lanes (1 to 4). */
@inline
export function storeLanes(p: usize, v: v128, count: i32): void {
  if (count >= 4) v128.store(p, v);
  else {
    v128.store_lane<u32>(p, v, 0);
    if (count > 1) v128.store_lane<u32>(p, v, 1, 4);
    if (count > 2) v128.store_lane<u32>(p, v, 2, 8);
  }
}

/** Σ a·b of n f32 in a fixed order: four vectors of partial sums, then the rest. */
export function dotPiece(a: usize, b: usize, n: i32): f32 {
  let s0 = f32x4.splat(0);
  let s1 = f32x4.splat(0);
  let s2 = f32x4.splat(0);
  let s3 = f32x4.splat(0);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    s0 = madd(v128.load(a), v128.load(b), s0);
    s1 = madd(v128.load(a, 16), v128.load(b, 16), s1);
    s2 = madd(v128.load(a, 32), v128.load(b, 32), s2);
    s3 = madd(v128.load(a, 48), v128.load(b, 48), s3);
    a += 64;
    b += 64;
  }
  let s = hsum(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
  for (; i < n; i++) {
    s += load<f32>(a) * load<f32>(b);
    a += 4;
    b += 4;
  }
  return s;
}
