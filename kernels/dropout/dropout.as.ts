// y = u ≥ p ? x / (1 − p) : 0 with Philox's u at the element's row-major index.
import { philoxWords, uniform4 } from '../common/wasm/philox.as';
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { storeLanes } from '../common/wasm/simd.as';

/** Units of rows of n elements cut into chunks; x and y are operands 0 and 1 of `desc`. */
export function dropout(
  x: usize, xType: i32, xStep: i32, y: usize, yType: i32, yStep: i32, n: i32, chunk: i32, desc: usize, seed: usize, site: i32, p: f32, keep: f32,
  begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  // Two scratch rows: a piece that starts inside a counter needs a few words more than a row.
  const words = scratchRow(2);
  const threshold = f32x4.splat(p);
  const divisor = f32x4.splat(keep);
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const xr = rowAt(x, xType, desc, 0, row);
    const yr = rowAt(y, yType, desc, 1, row);
    for (let o = from; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const skip = philoxWords(words, seed, site, <u64>row * <u64>n + <u64>o, m);
      const w = words + (<usize>skip << 2);
      const src = input(xType, at(xr, xType, o * xStep), xStep, m, scratchRow(0));
      const yp = at(yr, yType, o * yStep);
      const dst = output(yType, yp, yStep, scratchRow(1));
      for (let i = 0; i < m; i += 4) {
        const q = <usize>i << 2;
        const kept = f32x4.ge(uniform4(v128.load(w + q)), threshold);
        storeLanes(dst + q, v128.and(f32x4.div(v128.load(src + q), divisor), kept), m - i);
      }
      flush(yType, yp, yStep, dst, m);
    }
  }
}
