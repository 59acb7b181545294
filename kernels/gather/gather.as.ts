// y[i…, :] = table[ids[i…], :].
import { PIECE, at, castRow, elementShift, rowAt } from '../common/wasm/rows.as';
import { I32 } from '../common/wasm/simd.as';

/**
 * Units are ids (leading axes of `desc`: ids 0, y 1). A row has n elements; ids outside [0, rows) give zeros. ids of u32 above 2³¹ are outside too.
 */
export function gather(
  table: usize, tableType: i32, rowStride: i32, tableStep: i32, rows: i32, n: i32, ids: usize, y: usize, yType: i32, yStep: i32, desc: usize,
  begin: i32, end: i32,
): void {
  for (let u = begin; u < end; u++) {
    const id = load<i32>(rowAt(ids, I32, desc, 0, u));
    const yp = rowAt(y, yType, desc, 1, u);
    const inside = <u32>id < <u32>rows;
    const row = inside ? table + ((<usize>id * <usize>rowStride) << <usize>elementShift(tableType)) : 0;
    for (let o = 0; o < n; o += PIECE) {
      const m = min<i32>(PIECE, n - o);
      const to = at(yp, yType, o * yStep);
      if (inside) castRow(yType, to, yStep, tableType, at(row, tableType, o * tableStep), tableStep, m);
      else for (let i = 0; i < m; i++) zero(at(to, yType, i * yStep), elementShift(yType));
    }
  }
}

function zero(p: usize, shift: i32): void {
  if (shift == 2) store<u32>(p, 0);
  else if (shift == 1) store<u16>(p, 0);
  else store<u8>(p, 0);
}
