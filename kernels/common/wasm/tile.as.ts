// The 6×8 register tile of every product here, and the packing that feeds it.
// 12 accumulators, 2 vectors of B and 1 of A fill the 15 vector registers that engines have on x64.
import { madd } from './simd.as';
import { loadFloat } from './convert.as';

export const MR: i32 = 6;
export const NR: i32 = 8;

/** Packed depth: panels are padded with zeros to an even number of steps. */
@inline
export function paddedDepth(kc: i32): i32 {
  return (kc + 1) & ~1;
}

@inline
function put(c: usize, accumulate: bool, alpha: v128, x0: v128, x1: v128): void {
  x0 = f32x4.mul(x0, alpha);
  x1 = f32x4.mul(x1, alpha);
  if (accumulate) {
    x0 = f32x4.add(v128.load(c), x0);
    x1 = f32x4.add(v128.load(c, 16), x1);
  }
  v128.store(c, x0);
  v128.store(c, x1, 16);
}

/**
 * C[6, 8] = alpha · A·B, or C += alpha · A·B. `a` holds kc columns of 6, `b` holds kc rows of 8, kc even. `ldc` in bytes.
 * The relaxed build keeps one step a turn: then the engine accumulates in place; unrolled it inserts copies and is a third slower.
 */
export function tile6x8(a: usize, b: usize, kc: i32, c: usize, ldc: usize, alpha: f32, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  let c10 = f32x4.splat(0);
  let c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0);
  let c21 = f32x4.splat(0);
  let c30 = f32x4.splat(0);
  let c31 = f32x4.splat(0);
  let c40 = f32x4.splat(0);
  let c41 = f32x4.splat(0);
  let c50 = f32x4.splat(0);
  let c51 = f32x4.splat(0);
  let x: v128, b0: v128, b1: v128;
  if (ASC_FEATURE_RELAXED_SIMD) {
    for (let k = 0; k < kc; k++) {
      b0 = v128.load(b);
      b1 = v128.load(b, 16);
      x = v128.load_splat<f32>(a);
      c00 = madd(x, b0, c00);
      c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 4);
      c10 = madd(x, b0, c10);
      c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 8);
      c20 = madd(x, b0, c20);
      c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 12);
      c30 = madd(x, b0, c30);
      c31 = madd(x, b1, c31);
      x = v128.load_splat<f32>(a, 16);
      c40 = madd(x, b0, c40);
      c41 = madd(x, b1, c41);
      x = v128.load_splat<f32>(a, 20);
      c50 = madd(x, b0, c50);
      c51 = madd(x, b1, c51);
      a += 24;
      b += 32;
    }
  } else {
    for (let k = 0; k < kc; k += 2) {
      b0 = v128.load(b);
      b1 = v128.load(b, 16);
      x = v128.load_splat<f32>(a);
      c00 = madd(x, b0, c00);
      c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 4);
      c10 = madd(x, b0, c10);
      c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 8);
      c20 = madd(x, b0, c20);
      c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 12);
      c30 = madd(x, b0, c30);
      c31 = madd(x, b1, c31);
      x = v128.load_splat<f32>(a, 16);
      c40 = madd(x, b0, c40);
      c41 = madd(x, b1, c41);
      x = v128.load_splat<f32>(a, 20);
      c50 = madd(x, b0, c50);
      c51 = madd(x, b1, c51);
      b0 = v128.load(b, 32);
      b1 = v128.load(b, 48);
      x = v128.load_splat<f32>(a, 24);
      c00 = madd(x, b0, c00);
      c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 28);
      c10 = madd(x, b0, c10);
      c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 32);
      c20 = madd(x, b0, c20);
      c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 36);
      c30 = madd(x, b0, c30);
      c31 = madd(x, b1, c31);
      x = v128.load_splat<f32>(a, 40);
      c40 = madd(x, b0, c40);
      c41 = madd(x, b1, c41);
      x = v128.load_splat<f32>(a, 44);
      c50 = madd(x, b0, c50);
      c51 = madd(x, b1, c51);
      a += 48;
      b += 64;
    }
  }
  const s = f32x4.splat(alpha);
  put(c, accumulate, s, c00, c01);
  c += ldc;
  put(c, accumulate, s, c10, c11);
  c += ldc;
  put(c, accumulate, s, c20, c21);
  c += ldc;
  put(c, accumulate, s, c30, c31);
  c += ldc;
  put(c, accumulate, s, c40, c41);
  c += ldc;
  put(c, accumulate, s, c50, c51);
}

/** The same for an edge of `rows` × `cols` (at most 6 × 8): computed whole into `edge` (192 bytes), then the valid part is moved. */
export function tileEdge(
  a: usize, b: usize, kc: i32, c: usize, ldc: usize, alpha: f32, accumulate: bool, rows: i32, cols: i32, edge: usize,
): void {
  tile6x8(a, b, kc, edge, 32, alpha, false);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      const p = c + (<usize>j << 2);
      let v = load<f32>(edge + (<usize>(i * 8 + j) << 2));
      if (accumulate) v = load<f32>(p) + v;
      store<f32>(p, v);
    }
    c += ldc;
  }
}

/** C[rows, cols] (+)= alpha · A·B for one panel of B and all panels of A; `panelBytes` lies between panels of A. */
export function tileColumn(
  a: usize, panelBytes: usize, b: usize, kc: i32, c: usize, ldc: usize, alpha: f32, accumulate: bool, rows: i32, cols: i32, edge: usize,
): void {
  for (let i = 0; i < rows; i += MR) {
    if (cols == NR && rows - i >= MR) tile6x8(a, b, kc, c, ldc, alpha, accumulate);
    else tileEdge(a, b, kc, c, ldc, alpha, accumulate, min<i32>(MR, rows - i), cols, edge);
    a += panelBytes;
    c += ldc * MR;
  }
}

@inline
function zeroTail(dst: usize, kc: i32, width: i32): void {
  if (kc & 1) memory.fill(dst + (<usize>(kc * width) << 2), 0, <usize>width << 2);
}

/** Panel of 8 from 8 rows that are contiguous along k (`stride` bytes apart). Rows past `rows` repeat the last one. */
export function packRows8(dst: usize, src: usize, stride: usize, rows: i32, kc: i32): void {
  const last = rows - 1;
  const p0 = src;
  const p1 = src + stride * <usize>min<i32>(1, last);
  const p2 = src + stride * <usize>min<i32>(2, last);
  const p3 = src + stride * <usize>min<i32>(3, last);
  const p4 = src + stride * <usize>min<i32>(4, last);
  const p5 = src + stride * <usize>min<i32>(5, last);
  const p6 = src + stride * <usize>min<i32>(6, last);
  const p7 = src + stride * <usize>min<i32>(7, last);
  let k = 0;
  let d = dst;
  for (; k + 4 <= kc; k += 4) {
    const o = <usize>k << 2;
    let r0 = v128.load(p0 + o);
    let r1 = v128.load(p1 + o);
    let r2 = v128.load(p2 + o);
    let r3 = v128.load(p3 + o);
    let t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    let t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    let t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    let t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<i64>(t0, t2, 0, 2));
    v128.store(d, v128.shuffle<i64>(t0, t2, 1, 3), 32);
    v128.store(d, v128.shuffle<i64>(t1, t3, 0, 2), 64);
    v128.store(d, v128.shuffle<i64>(t1, t3, 1, 3), 96);
    r0 = v128.load(p4 + o);
    r1 = v128.load(p5 + o);
    r2 = v128.load(p6 + o);
    r3 = v128.load(p7 + o);
    t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<i64>(t0, t2, 0, 2), 16);
    v128.store(d, v128.shuffle<i64>(t0, t2, 1, 3), 48);
    v128.store(d, v128.shuffle<i64>(t1, t3, 0, 2), 80);
    v128.store(d, v128.shuffle<i64>(t1, t3, 1, 3), 112);
    d += 128;
  }
  for (; k < kc; k++) {
    const o = <usize>k << 2;
    store<f32>(d, load<f32>(p0 + o));
    store<f32>(d, load<f32>(p1 + o), 4);
    store<f32>(d, load<f32>(p2 + o), 8);
    store<f32>(d, load<f32>(p3 + o), 12);
    store<f32>(d, load<f32>(p4 + o), 16);
    store<f32>(d, load<f32>(p5 + o), 20);
    store<f32>(d, load<f32>(p6 + o), 24);
    store<f32>(d, load<f32>(p7 + o), 28);
    d += 32;
  }
  zeroTail(dst, kc, 8);
}

/** Panel of 6 from 6 rows that are contiguous along k (`stride` bytes apart). Rows past `rows` repeat the last one. */
export function packRows6(dst: usize, src: usize, stride: usize, rows: i32, kc: i32): void {
  const last = rows - 1;
  const p0 = src;
  const p1 = src + stride * <usize>min<i32>(1, last);
  const p2 = src + stride * <usize>min<i32>(2, last);
  const p3 = src + stride * <usize>min<i32>(3, last);
  const p4 = src + stride * <usize>min<i32>(4, last);
  const p5 = src + stride * <usize>min<i32>(5, last);
  let k = 0;
  let d = dst;
  for (; k + 4 <= kc; k += 4) {
    const o = <usize>k << 2;
    const r0 = v128.load(p0 + o);
    const r1 = v128.load(p1 + o);
    const r2 = v128.load(p2 + o);
    const r3 = v128.load(p3 + o);
    const r4 = v128.load(p4 + o);
    const r5 = v128.load(p5 + o);
    const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    const u0 = v128.shuffle<f32>(r4, r5, 0, 4, 1, 5);
    const u1 = v128.shuffle<f32>(r4, r5, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<i64>(t0, t2, 0, 2));
    v128.store_lane<u64>(d, u0, 0, 16);
    v128.store(d, v128.shuffle<i64>(t0, t2, 1, 3), 24);
    v128.store_lane<u64>(d, u0, 1, 40);
    v128.store(d, v128.shuffle<i64>(t1, t3, 0, 2), 48);
    v128.store_lane<u64>(d, u1, 0, 64);
    v128.store(d, v128.shuffle<i64>(t1, t3, 1, 3), 72);
    v128.store_lane<u64>(d, u1, 1, 88);
    d += 96;
  }
  for (; k < kc; k++) {
    const o = <usize>k << 2;
    store<f32>(d, load<f32>(p0 + o));
    store<f32>(d, load<f32>(p1 + o), 4);
    store<f32>(d, load<f32>(p2 + o), 8);
    store<f32>(d, load<f32>(p3 + o), 12);
    store<f32>(d, load<f32>(p4 + o), 16);
    store<f32>(d, load<f32>(p5 + o), 20);
    d += 24;
  }
  zeroTail(dst, kc, 6);
}

/** Panel of 8 from rows of k that are contiguous along the panel (`stride` bytes between steps of k). */
export function packColumns8(dst: usize, src: usize, stride: usize, cols: i32, kc: i32): void {
  let d = dst;
  if (cols == 8) {
    for (let k = 0; k < kc; k++) {
      v128.store(d, v128.load(src));
      v128.store(d, v128.load(src, 16), 16);
      src += stride;
      d += 32;
    }
  } else {
    for (let k = 0; k < kc; k++) {
      for (let j = 0; j < 8; j++) store<f32>(d + (<usize>j << 2), load<f32>(src + (<usize>min<i32>(j, cols - 1) << 2)));
      src += stride;
      d += 32;
    }
  }
  zeroTail(dst, kc, 8);
}

/** Panel of 6 from rows of k that are contiguous along the panel (`stride` bytes between steps of k). */
export function packColumns6(dst: usize, src: usize, stride: usize, cols: i32, kc: i32): void {
  let d = dst;
  if (cols == 6) {
    for (let k = 0; k < kc; k++) {
      v128.store(d, v128.load(src));
      store<u64>(d, load<u64>(src, 16), 16);
      src += stride;
      d += 24;
    }
  } else {
    for (let k = 0; k < kc; k++) {
      for (let j = 0; j < 6; j++) store<f32>(d + (<usize>j << 2), load<f32>(src + (<usize>min<i32>(j, cols - 1) << 2)));
      src += stride;
      d += 24;
    }
  }
  zeroTail(dst, kc, 6);
}

/** Panel of `width` from any strides (in elements) and any dense float type, one element at a time. */
export function packAny(dst: usize, width: i32, type: i32, src: usize, across: i32, along: i32, valid: i32, kc: i32): void {
  let d = dst;
  for (let k = 0; k < kc; k++) {
    for (let j = 0; j < width; j++) {
      store<f32>(d, loadFloat(type, src, min<i32>(j, valid - 1) * across + k * along));
      d += 4;
    }
  }
  zeroTail(dst, kc, width);
}
