// Values of a blockwise-quantized tensor, and the scales of a double-quantized one.
import { dequantize4, dequantize8 } from '../common/wasm/codes.as';
import { PIECE, at, flush, output, scratchRow } from '../common/wasm/rows.as';
import { CODES4 } from '../common/wasm/simd.as';

/** y (contiguous, n elements) = book[code] · absmax; units are chunks of `chunk` elements. */
export function dequantize(
  type: i32, codes: usize, absmax: usize, book: usize, block: i32, y: usize, yType: i32, n: i32, chunk: i32, begin: i32, end: i32,
): void {
  for (let unit = begin; unit < end; unit++) {
    const to = min<i32>(n, (unit + 1) * chunk);
    for (let o = unit * chunk; o < to; o += PIECE) {
      const m = min<i32>(PIECE, to - o);
      const yp = at(y, yType, o);
      const dst = output(yType, yp, 1, scratchRow(0));
      if (type == CODES4) dequantize4(dst, codes, absmax, book, block, o, m);
      else dequantize8(dst, codes, absmax, book, block, o, m);
      flush(yType, yp, 1, dst, m);
    }
  }
}

/** scales[j] = book[codes[j]] · nested[j / 256] + offset, each rounded to f32, for j in begin…end. */
export function unnest(codes: usize, nested: usize, book: usize, offset: usize, scales: usize, begin: i32, end: i32): void {
  const add = load<f32>(offset);
  for (let j = begin; j < end; j++) {
    const v = load<f32>(book + (<usize>load<u8>(codes + <usize>j) << 2)) * load<f32>(nested + (<usize>(j >> 8) << 2));
    store<f32>(scales + (<usize>j << 2), v + add);
  }
}
