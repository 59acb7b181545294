// One row times a matrix: bound by reading the matrix, so nothing is packed and codes are expanded in the L1 cache.
import { fetch } from '../common/wasm/codes.as';
import { scratchRow } from '../common/wasm/rows.as';
import { F32, dotPiece, hsum, madd } from '../common/wasm/simd.as';

/** Elements of a row of the matrix that are expanded at once. */
const SEGMENT: i32 = 2048;

/** Four dot products with one x. */
function dot4(x: usize, w: usize, stride: usize, n: i32, dst: usize): void {
  const w1 = w + stride;
  const w2 = w1 + stride;
  const w3 = w2 + stride;
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const q = <usize>i << 2;
    const x0 = v128.load(x + q);
    const x1 = v128.load(x + q, 16);
    a0 = madd(x0, v128.load(w + q), a0);
    a1 = madd(x1, v128.load(w + q, 16), a1);
    b0 = madd(x0, v128.load(w1 + q), b0);
    b1 = madd(x1, v128.load(w1 + q, 16), b1);
    c0 = madd(x0, v128.load(w2 + q), c0);
    c1 = madd(x1, v128.load(w2 + q, 16), c1);
    d0 = madd(x0, v128.load(w3 + q), d0);
    d1 = madd(x1, v128.load(w3 + q, 16), d1);
  }
  let a = hsum(f32x4.add(a0, a1));
  let b = hsum(f32x4.add(b0, b1));
  let c = hsum(f32x4.add(c0, c1));
  let d = hsum(f32x4.add(d0, d1));
  for (; i < n; i++) {
    const q = <usize>i << 2;
    const v = load<f32>(x + q);
    a += v * load<f32>(w + q);
    b += v * load<f32>(w1 + q);
    c += v * load<f32>(w2 + q);
    d += v * load<f32>(w3 + q);
  }
  store<f32>(dst, a);
  store<f32>(dst, b, 4);
  store<f32>(dst, c, 8);
  store<f32>(dst, d, 12);
}

@inline
function finish(y: usize, n: i32, sum: f32, alpha: f32, beta: f32, bias: usize): void {
  const p = y + (<usize>n << 2);
  let v = alpha * sum;
  if (beta != 0) v += beta * load<f32>(p);
  if (bias) v += load<f32>(bias + (<usize>n << 2));
  store<f32>(p, v);
}

/**
 * y[n] = alpha · Σₖ x[k] · W[n, k] + beta · y[n] + bias[n] for groups `begin`…`end` of four n. x f32 contiguous; row n of W starts at element
 * n · stride and is contiguous; W of any operand type (codes: stride = K).
 */
export function gemvRows(
  x: usize, w: usize, type: i32, stride: i32, absmax: usize, book: usize, block: i32, y: usize, N: i32, K: i32, alpha: f32, beta: f32, bias: usize,
  begin: i32, end: i32,
): void {
  const temp = scratchRow(0);
  const sums = scratchRow(8);
  for (let g = begin; g < end; g++) {
    const n0 = g << 2;
    const count = min<i32>(4, N - n0);
    if (type == F32 && count == 4) {
      dot4(x, w + (<usize>(n0 * stride) << 2), <usize>stride << 2, K, sums);
      for (let j = 0; j < 4; j++) finish(y, n0 + j, load<f32>(sums + (<usize>j << 2)), alpha, beta, bias);
      continue;
    }
    for (let j = 0; j < count; j++) {
      const start = (n0 + j) * stride;
      if (type == F32) {
        // The lanes of dot4, so that a row's result does not depend on its group.
        dot4(x, w + (<usize>start << 2), 0, K, sums);
        finish(y, n0 + j, load<f32>(sums), alpha, beta, bias);
        continue;
      }
      let total: f32 = 0;
      for (let k = 0; k < K; k += SEGMENT) {
        const m = min<i32>(SEGMENT, K - k);
        fetch(temp, type, w, absmax, book, block, start + k, m);
        total += dotPiece(x + (<usize>k << 2), temp, m);
      }
      finish(y, n0 + j, total, alpha, beta, bias);
    }
  }
}

/** Columns of one unit of `gemvColumns`. */
const COLUMNS: i32 = 256;

/**
 * y[n] = alpha · Σₖ x[k] · W[k, n] + beta · y[n] + bias[n] for units of 256 columns. Row k of W starts at element k · stride and is contiguous.
 */
export function gemvColumns(
  x: usize, w: usize, type: i32, stride: i32, absmax: usize, book: usize, block: i32, y: usize, N: i32, K: i32, alpha: f32, beta: f32, bias: usize,
  begin: i32, end: i32,
): void {
  const temp = scratchRow(0);
  const acc = scratchRow(4);
  for (let u = begin; u < end; u++) {
    const n0 = u * COLUMNS;
    const m = min<i32>(COLUMNS, N - n0);
    memory.fill(acc, 0, COLUMNS * 4);
    for (let k = 0; k < K; k++) {
      const v = f32x4.splat(load<f32>(x + (<usize>k << 2)));
      let p = temp;
      if (type == F32) p = w + (<usize>(k * stride + n0) << 2);
      else fetch(temp, type, w, absmax, book, block, k * stride + n0, m);
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        v128.store(acc + q, madd(v, v128.load(p + q), v128.load(acc + q)));
      }
    }
    for (let i = 0; i < m; i++) finish(y, n0 + i, load<f32>(acc + (<usize>i << 2)), alpha, beta, bias);
  }
}
