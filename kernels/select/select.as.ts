// y = cond ≠ 0 ? a : b for elements of 1, 2 or 4 bytes.
import { U8 } from '../common/wasm/simd.as';
import { at, elementShift, rowAt } from '../common/wasm/rows.as';

/** cond (u8), a, b, y are operands 0…3 of `desc`; a, b and y have one type. */
export function select(
  cond: usize, condStep: i32, a: usize, aStep: i32, b: usize, bStep: i32, y: usize, type: i32, yStep: i32, n: i32, chunk: i32, desc: usize,
  begin: i32, end: i32,
): void {
  const chunks = (n + chunk - 1) / chunk;
  const shift = elementShift(type);
  for (let unit = begin; unit < end; unit++) {
    const row = unit / chunks;
    const from = (unit % chunks) * chunk;
    const to = min<i32>(n, from + chunk);
    let cp = at(rowAt(cond, U8, desc, 0, row), U8, from * condStep);
    let ap = at(rowAt(a, type, desc, 1, row), type, from * aStep);
    let bp = at(rowAt(b, type, desc, 2, row), type, from * bStep);
    let yp = at(rowAt(y, type, desc, 3, row), type, from * yStep);
    for (let i = from; i < to; i++) {
      const p = load<u8>(cp) ? ap : bp;
      if (shift == 2) store<u32>(yp, load<u32>(p));
      else if (shift == 1) store<u16>(yp, load<u16>(p));
      else store<u8>(yp, load<u8>(p));
      cp += <usize>condStep;
      ap += <usize>aStep << shift;
      bp += <usize>bStep << shift;
      yp += <usize>yStep << shift;
    }
  }
}
