// y = x · rstd · weight over rows, rstd = 1/√(mean(x²) + eps).
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { F32, dotPiece, storeLanes } from '../common/wasm/simd.as';

/** Rows `begin`…`end`; leading axes: x 0, y 1, rstd 2 (f32). */
export function rmsNorm(
  x: usize, xType: i32, xStep: i32, weight: usize, wType: i32, wStep: i32, y: usize, yType: i32, yStep: i32, rstd: usize, n: i32, eps: f32,
  desc: usize, begin: i32, end: i32,
): void {
  for (let r = begin; r < end; r++) {
    const xr = rowAt(x, xType, desc, 0, r);
    const yr = rowAt(y, yType, desc, 1, r);
    let total: f64 = 0;
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const p = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
      total += <f64>dotPiece(p, p, m);
    }
    const scale = <f32>(1 / sqrt<f64>(total / <f64>n + <f64>eps));
    store<f32>(rowAt(rstd, F32, desc, 2, r), scale);
    const s = f32x4.splat(scale);
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const p = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
      const w = input(wType, at(weight, wType, o * wStep), wStep, m, scratchRow(1));
      const yp = at(yr, yType, o * yStep);
      const dst = output(yType, yp, yStep, scratchRow(2));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        storeLanes(dst + q, f32x4.mul(f32x4.mul(v128.load(p + q), s), v128.load(w + q)), m - i);
      }
      flush(yType, yp, yStep, dst, m);
    }
  }
}
