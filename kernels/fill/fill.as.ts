// y = start + step · index, row by row; step 0 fills.
import { PIECE, at, isFloatType, rowAt, scratchRow, storeInts, storeRow } from '../common/wasm/rows.as';

/** A constant keeps the sign of its zero. */
@inline
function value(start: f64, along: f64, i: i32): f64 {
  return along == 0 ? start : start + along * <f64>i;
}

/** Units of rows cut into chunks; y is operand 0 of `desc`. Along the row the value grows by `along`. */
export function fill(
  y: usize, type: i32, step: i32, n: i32, chunk: i32, desc: usize, start: f64, along: f64, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const yr = rowAt(y, type, desc, 0, row);
    for (let o = from; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const yp = at(yr, type, o * step);
      const temp = scratchRow(0);
      if (isFloatType(type)) {
        for (let i = 0; i < m; i++) store<f32>(temp + (<usize>i << 2), <f32>value(start, along, o + i));
        storeRow(type, yp, step, temp, m);
      } else {
        for (let i = 0; i < m; i++) store<i32>(temp + (<usize>i << 2), <i32>(<i64>value(start, along, o + i)));
        storeInts(type, yp, step, temp, m);
      }
    }
  }
}
