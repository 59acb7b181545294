// y = x in another element type (or the same: a strided copy), over rows cut into chunks.
import { PIECE, at, castRow, elementShift, moveRow, rowAt } from '../common/wasm/rows.as';

/** x and y are operands 0 and 1 of `desc`. */
export function cast(
  x: usize, xType: i32, xStep: i32, y: usize, yType: i32, yStep: i32, n: i32, chunk: i32, desc: usize, begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    const xr = rowAt(x, xType, desc, 0, row);
    const yr = rowAt(y, yType, desc, 1, row);
    if (xType == yType) {
      moveRow(at(yr, yType, from * yStep), yStep, at(xr, xType, from * xStep), xStep, elementShift(xType), to - from);
      continue;
    }
    for (let o = from; o < to; o += PIECE) {
      castRow(yType, at(yr, yType, o * yStep), yStep, xType, at(xr, xType, o * xStep), xStep, min<i32>(PIECE, to - o));
    }
  }
}
