// With x̂ = x·rstd and g = dy·weight: dx = rstd · (g − x̂ · mean(g·x̂)); dweight = Σ rows dy·x̂.
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { F32, hsum, madd, nmadd, storeLanes } from '../common/wasm/simd.as';

/** Σ g·w·x of n elements. */
function dot3(g: usize, w: usize, x: usize, n: i32): f32 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const q = <usize>i << 2;
    a = madd(f32x4.mul(v128.load(g + q), v128.load(w + q)), v128.load(x + q), a);
    b = madd(f32x4.mul(v128.load(g + q, 16), v128.load(w + q, 16)), v128.load(x + q, 16), b);
  }
  let s = hsum(f32x4.add(a, b));
  for (; i < n; i++) {
    const q = <usize>i << 2;
    s += load<f32>(g + q) * load<f32>(w + q) * load<f32>(x + q);
  }
  return s;
}

/** dx for rows `begin`…`end`; leading axes: dy 0, x 1, dx 2, rstd 3. dx may be dy. */
export function rmsNormBackward(
  dy: usize, dyType: i32, dyStep: i32, x: usize, xType: i32, xStep: i32, weight: usize, wType: i32, wStep: i32, rstd: usize,
  dx: usize, dxType: i32, dxStep: i32, n: i32, desc: usize, begin: i32, end: i32,
): void {
  for (let r = begin; r < end; r++) {
    const gr = rowAt(dy, dyType, desc, 0, r);
    const xr = rowAt(x, xType, desc, 1, r);
    const dr = rowAt(dx, dxType, desc, 2, r);
    const scale = load<f32>(rowAt(rstd, F32, desc, 3, r));
    let total: f64 = 0;
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const g = input(dyType, at(gr, dyType, o * dyStep), dyStep, m, scratchRow(0));
      const p = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(1));
      const w = input(wType, at(weight, wType, o * wStep), wStep, m, scratchRow(2));
      total += <f64>dot3(g, w, p, m);
    }
    // dx = rstd·g·w − x · rstd³ · mean(g·w·x)
    const s = f32x4.splat(scale);
    const c = f32x4.splat(<f32>((total / <f64>n) * <f64>scale * <f64>scale * <f64>scale));
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const g = input(dyType, at(gr, dyType, o * dyStep), dyStep, m, scratchRow(0));
      const p = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(1));
      const w = input(wType, at(weight, wType, o * wStep), wStep, m, scratchRow(2));
      const to = at(dr, dxType, o * dxStep);
      const dst = output(dxType, to, dxStep, scratchRow(3));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        const v = f32x4.mul(f32x4.mul(v128.load(g + q), v128.load(w + q)), s);
        storeLanes(dst + q, nmadd(v128.load(p + q), c, v), m - i);
      }
      flush(dxType, to, dxStep, dst, m);
    }
  }
}

/** dweight (f32, contiguous) for chunks of `chunk` (at most PIECE) columns over all `rows`, in the order of rows by groups of 64. */
export function rmsNormWeight(
  dy: usize, dyType: i32, dyStep: i32, x: usize, xType: i32, xStep: i32, rstd: usize, dweight: usize, n: i32, rows: i32, chunk: i32, desc: usize,
  begin: i32, end: i32,
): void {
  const group = scratchRow(2);
  for (let unit = begin; unit < end; unit++) {
    const o = unit * chunk;
    const m = min<i32>(chunk, n - o);
    const acc = dweight + (<usize>o << 2);
    memory.fill(acc, 0, <usize>m << 2);
    for (let r0 = 0; r0 < rows; r0 += 64) {
      const r1 = min<i32>(rows, r0 + 64);
      memory.fill(group, 0, <usize>PIECE << 2);
      for (let r = r0; r < r1; r++) {
        const g = input(dyType, at(rowAt(dy, dyType, desc, 0, r), dyType, o * dyStep), dyStep, m, scratchRow(0));
        const p = input(xType, at(rowAt(x, xType, desc, 1, r), xType, o * xStep), xStep, m, scratchRow(1));
        const s = f32x4.splat(load<f32>(rowAt(rstd, F32, desc, 3, r)));
        for (let i = 0; i < m; i += 4) {
          const q = <usize>i << 2;
          v128.store(group + q, madd(f32x4.mul(v128.load(g + q), v128.load(p + q)), s, v128.load(group + q)));
        }
      }
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        storeLanes(acc + q, f32x4.add(v128.load(acc + q), v128.load(group + q)), m - i);
      }
    }
  }
}
