// With s = σ(gate): dgate = dy · up · s · (1 + gate · (1 − s)), dup = dy · gate · s.
import { vsigmoid } from '../common/wasm/math.as';
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { madd, storeLanes } from '../common/wasm/simd.as';

/** Rows `begin`…`end` of F; leading axes: dy 0, x 1, dx 2. dx may be x: a piece is read before it is written. */
export function swigluBackward(
  dy: usize, dyType: i32, dyStep: i32, x: usize, xType: i32, xStep: i32, dx: usize, dxType: i32, dxStep: i32, F: i32, desc: usize,
  begin: i32, end: i32,
): void {
  const one = f32x4.splat(1);
  for (let r = begin; r < end; r++) {
    const gr = rowAt(dy, dyType, desc, 0, r);
    const xr = rowAt(x, xType, desc, 1, r);
    const dr = rowAt(dx, dxType, desc, 2, r);
    for (let o = 0; o < F; o += PIECE) {
      const m = min<i32>(PIECE, F - o);
      const d = input(dyType, at(gr, dyType, o * dyStep), dyStep, m, scratchRow(0));
      const g = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(1));
      const u = input(xType, at(xr, xType, (F + o) * xStep), xStep, m, scratchRow(2));
      const dg = at(dr, dxType, o * dxStep);
      const du = at(dr, dxType, (F + o) * dxStep);
      const gate = output(dxType, dg, dxStep, scratchRow(3));
      const up = output(dxType, du, dxStep, scratchRow(4));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        const vg = v128.load(g + q);
        const vd = v128.load(d + q);
        const vu = v128.load(u + q);
        const s = vsigmoid(vg);
        const ds = f32x4.mul(vd, s);
        storeLanes(gate + q, f32x4.mul(f32x4.mul(ds, vu), madd(vg, f32x4.sub(one, s), one)), m - i);
        storeLanes(up + q, f32x4.mul(ds, vg), m - i);
      }
      flush(dxType, dg, dxStep, gate, m);
      flush(dxType, du, dxStep, up, m);
    }
  }
}
