// y = silu(gate) · up; gate and up are the halves of a row of x.
import { vsilu } from '../common/wasm/math.as';
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { storeLanes } from '../common/wasm/simd.as';

/** Rows `begin`…`end` of F outputs; leading axes: x 0, y 1. */
export function swiglu(
  x: usize, xType: i32, xStep: i32, y: usize, yType: i32, yStep: i32, F: i32, desc: usize, begin: i32, end: i32,
): void {
  for (let r = begin; r < end; r++) {
    const xr = rowAt(x, xType, desc, 0, r);
    const yr = rowAt(y, yType, desc, 1, r);
    for (let o = 0; o < F; o += PIECE) {
      const m = min<i32>(PIECE, F - o);
      const g = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
      const u = input(xType, at(xr, xType, (F + o) * xStep), xStep, m, scratchRow(1));
      const yp = at(yr, yType, o * yStep);
      const dst = output(yType, yp, yStep, scratchRow(2));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        storeLanes(dst + q, f32x4.mul(vsilu(v128.load(g + q)), v128.load(u + q)), m - i);
      }
      flush(yType, yp, yStep, dst, m);
    }
  }
}
