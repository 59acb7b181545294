// Rotary position embedding in half-rotation form.
import { PIECE, at, flush, input, output, rowAt, scratchRow } from '../common/wasm/rows.as';
import { I32, madd, nmadd } from '../common/wasm/simd.as';

/**
 * Units are (b, t): leading axes of `desc` are B, T for x 0, y 1, positions 2. `heads` heads lie xHead and yHead elements apart, D elements each.
 * cos and sin are f32 [P, half], rows tableStride apart. `sign` is 1, or −1 for the inverse. D at most PIECE.
 */
export function rope(
  x: usize, xType: i32, xHead: i32, xStep: i32, y: usize, yType: i32, yHead: i32, yStep: i32, cos: usize, sin: usize, tableStride: i32,
  positions: usize, heads: i32, D: i32, half: i32, sign: f32, desc: usize, begin: i32, end: i32,
): void {
  const vs = f32x4.splat(sign);
  for (let u = begin; u < end; u++) {
    const xr = rowAt(x, xType, desc, 0, u);
    const yr = rowAt(y, yType, desc, 1, u);
    const row = <usize>(load<i32>(rowAt(positions, I32, desc, 2, u)) * tableStride) << 2;
    for (let h = 0; h < heads; h++) {
      const src = input(xType, at(xr, xType, h * xHead), xStep, D, scratchRow(0));
      const to = at(yr, yType, h * yHead);
      const dst = output(yType, to, yStep, scratchRow(1));
      let i = 0;
      const far = <usize>half << 2;
      for (; i + 4 <= half; i += 4) {
        const q = <usize>i << 2;
        const c = v128.load(cos + row + q);
        const s = f32x4.mul(v128.load(sin + row + q), vs);
        const a = v128.load(src + q);
        const b = v128.load(src + q + far);
        v128.store(dst + q, nmadd(b, s, f32x4.mul(a, c)));
        v128.store(dst + q + far, madd(a, s, f32x4.mul(b, c)));
      }
      for (; i < half; i++) {
        const q = <usize>i << 2;
        const c = load<f32>(cos + row + q);
        const s = load<f32>(sin + row + q) * sign;
        const a = load<f32>(src + q);
        const b = load<f32>(src + q + far);
        store<f32>(dst + q, a * c - b * s);
        store<f32>(dst + q + far, b * c + a * s);
      }
      if (2 * half < D && dst != src) memory.copy(dst + 2 * far, src + 2 * far, <usize>(D - 2 * half) << 2);
      flush(yType, to, yStep, dst, D);
    }
  }
}
