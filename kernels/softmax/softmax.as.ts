// y = exp(x − max) / Σ exp(x − max) over rows; the exponentials are made once and kept in y where y is f32.
import { vexp } from '../common/wasm/math.as';
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { F32, hmax, hsum, storeLanes } from '../common/wasm/simd.as';

/** Largest of n elements of a row of any type; NaN if there is one, −∞ if n is 0. */
export function rowMax(x: usize, type: i32, step: i32, n: i32): f32 {
  let best: f32 = -Infinity;
  for (let o = 0; o < n; o += PIECE) {
    const m = min<i32>(PIECE, n - o);
    let p = input(type, at(x, type, o * step), step, m, scratchRow(0));
    let v = f32x4.splat(-Infinity);
    let i = 0;
    for (; i + 4 <= m; i += 4) {
      v = f32x4.max(v, v128.load(p));
      p += 16;
    }
    best = max<f32>(best, hmax(v));
    for (; i < m; i++) {
      best = max<f32>(best, load<f32>(p));
      p += 4;
    }
  }
  return best;
}

/** dst[i] = exp(src[i] − shift) for n elements; returns their sum. dst may be src. */
export function expPiece(dst: usize, src: usize, n: i32, shift: f32): f32 {
  const s = f32x4.splat(shift);
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const u = vexp(f32x4.sub(v128.load(src), s));
    const v = vexp(f32x4.sub(v128.load(src, 16), s));
    a = f32x4.add(a, u);
    b = f32x4.add(b, v);
    v128.store(dst, u);
    v128.store(dst, v, 16);
    src += 32;
    dst += 32;
  }
  let total = hsum(f32x4.add(a, b));
  for (; i < n; i++) {
    const e = f32x4.extract_lane(vexp(f32x4.sub(v128.load_splat<f32>(src), s)), 0);
    total += e;
    store<f32>(dst, e);
    src += 4;
    dst += 4;
  }
  return total;
}

/** dst[i] = src[i] · factor. */
export function scalePiece(dst: usize, src: usize, n: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  for (let i = 0; i < n; i += 4) storeLanes(dst + (<usize>i << 2), f32x4.mul(v128.load(src + (<usize>i << 2)), f), n - i);
}

/** Rows `begin`…`end`; leading axes: x 0, y 1. */
export function softmax(
  x: usize, xType: i32, xStep: i32, y: usize, yType: i32, yStep: i32, n: i32, desc: usize, begin: i32, end: i32,
): void {
  const direct = yType == F32 && yStep == 1;
  const temp = scratchRow(1);
  for (let r = begin; r < end; r++) {
    const xr = rowAt(x, xType, desc, 0, r);
    const yr = rowAt(y, yType, desc, 1, r);
    const shift = rowMax(xr, xType, xStep, n);
    let total: f64 = 0;
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const src = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
      total += <f64>expPiece(direct ? at(yr, yType, o) : temp, src, m, shift);
    }
    const factor = <f32>(1 / total);
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const yp = at(yr, yType, o * yStep);
      if (direct) scalePiece(yp, yp, m, factor);
      else {
        const src = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
        expPiece(temp, src, m, shift);
        scalePiece(temp, temp, m, factor);
        flush(yType, yp, yStep, temp, m);
      }
    }
  }
}
