// y[ids[i], :] += x[i, :] in the order of i, in f32. Units are ranges of columns, so every sum is made by one thread.
import { PIECE, at, input, rowAt, scratchRow } from '../common/wasm/rows.as';
import { I32, storeLanes } from '../common/wasm/simd.as';

/** y: f32 rows of n contiguous elements, `rowStride` apart. Leading axes of `desc`: ids 0, x 1; `count` ids in all. Chunks of at most PIECE columns. */
export function scatterAdd(
  y: usize, rowStride: i32, rows: i32, n: i32, ids: usize, count: i32, x: usize, xType: i32, xStep: i32, desc: usize, chunk: i32, begin: i32, end: i32,
): void {
  for (let unit = begin; unit < end; unit++) {
    const o = unit * chunk;
    const m = min<i32>(chunk, n - o);
    for (let i = 0; i < count; i++) {
      const id = load<i32>(rowAt(ids, I32, desc, 0, i));
      if (<u32>id >= <u32>rows) continue;
      const src = input(xType, at(rowAt(x, xType, desc, 1, i), xType, o * xStep), xStep, m, scratchRow(0));
      const dst = y + ((<usize>id * <usize>rowStride + <usize>o) << 2);
      for (let j = 0; j < m; j += 4) {
        const q = <usize>j << 2;
        storeLanes(dst + q, f32x4.add(v128.load(dst + q), v128.load(src + q)), m - j);
      }
    }
  }
}
