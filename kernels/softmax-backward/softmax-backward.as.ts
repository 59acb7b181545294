// dx = y · (dy − Σ dy·y) over rows.
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { dotPiece, storeLanes } from '../common/wasm/simd.as';

/** Rows `begin`…`end`; leading axes: dy 0, y 1, dx 2. dx may be dy. */
export function softmaxBackward(
  dy: usize, dyType: i32, dyStep: i32, y: usize, yType: i32, yStep: i32, dx: usize, dxType: i32, dxStep: i32, n: i32, desc: usize,
  begin: i32, end: i32,
): void {
  for (let r = begin; r < end; r++) {
    const gr = rowAt(dy, dyType, desc, 0, r);
    const yr = rowAt(y, yType, desc, 1, r);
    const xr = rowAt(dx, dxType, desc, 2, r);
    let total: f64 = 0;
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const g = input(dyType, at(gr, dyType, o * dyStep), dyStep, m, scratchRow(0));
      const p = input(yType, at(yr, yType, o * yStep), yStep, m, scratchRow(1));
      total += <f64>dotPiece(g, p, m);
    }
    const s = f32x4.splat(<f32>total);
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const g = input(dyType, at(gr, dyType, o * dyStep), dyStep, m, scratchRow(0));
      const p = input(yType, at(yr, yType, o * yStep), yStep, m, scratchRow(1));
      const xp = at(xr, dxType, o * dxStep);
      const dst = output(dxType, xp, dxStep, scratchRow(2));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        storeLanes(dst + q, f32x4.mul(v128.load(p + q), f32x4.sub(v128.load(g + q), s)), m - i);
      }
      flush(dxType, xp, dxStep, dst, m);
    }
  }
}
