// Blockwise quantization with the arithmetic of bitsandbytes' CPU path, f32 rounding by rounding.
import { PIECE, at, input, scratchRow } from '../common/wasm/rows.as';
import { hmax } from '../common/wasm/simd.as';

/** Largest |x − offset| of n f32; the shifted values are left in `dst`. */
function shiftAndMax(dst: usize, src: usize, n: i32, offset: f32): f32 {
  const s = f32x4.splat(offset);
  let m = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const v = f32x4.sub(v128.load(src + (<usize>i << 2)), s);
    v128.store(dst + (<usize>i << 2), v);
    m = f32x4.max(m, f32x4.abs(v));
  }
  let best = hmax(m);
  for (; i < n; i++) {
    const v = load<f32>(src + (<usize>i << 2)) - offset;
    store<f32>(dst + (<usize>i << 2), v);
    best = max<f32>(best, abs<f32>(v));
  }
  return best;
}

/** 15 midpoints of the sorted codebook at `table`, then the 16 codes in sorted order (equal values keep the order of their codes). */
function sortBook(table: usize, book: usize): void {
  const order = table + 64;
  for (let i = 0; i < 16; i++) {
    const v = load<f32>(book + (<usize>i << 2));
    let j = i;
    while (j > 0 && load<f32>(book + (<usize>load<u8>(order + <usize>j - 1) << 2)) > v) {
      store<u8>(order + <usize>j, load<u8>(order + <usize>j - 1));
      j--;
    }
    store<u8>(order + <usize>j, <u8>i);
  }
  for (let i = 0; i < 15; i++) {
    const a = load<f32>(book + (<usize>load<u8>(order + <usize>i) << 2));
    const b = load<f32>(book + (<usize>load<u8>(order + <usize>i, 1) << 2));
    store<f32>(table + (<usize>i << 2), (a + b) / 2);
  }
}

/** Codes (0…15 in 32-bit lanes) of four scaled values: the bounds strictly below, then the permutation. */
@inline
function code4(v: v128, table: usize, order: v128): v128 {
  let count = i32x4.splat(0);
  for (let i: usize = 0; i < 60; i += 4) count = i32x4.sub(count, f32x4.lt(v128.load_splat<f32>(table + i), v));
  return v128.and(i8x16.swizzle(order, count), i32x4.splat(255));
}

/**
 * 4-bit codes for blocks `begin`…`end` of x (contiguous, n elements). A full block is multiplied by 1/max(absmax, 1e-38); the last, partial one
 * is divided by it, and stores it. Blocks are even, so threads write different bytes. Block size at most 4096.
 */
export function quantize4(
  x: usize, type: i32, n: i32, block: i32, book: usize, offset: usize, codes: usize, absmax: usize, begin: i32, end: i32,
): void {
  const table = scratchRow(8);
  const values = scratchRow(0);
  const shift: f32 = offset ? load<f32>(offset) : 0;
  sortBook(table, book);
  const order = v128.load(table + 64);
  const one = f32x4.splat(1);
  const minusOne = f32x4.splat(-1);
  for (let b = begin; b < end; b++) {
    const start = b * block;
    const m = min<i32>(block, n - start);
    let largest: f32 = 0;
    for (let o = 0; o < m; o += PIECE) {
      const count = min<i32>(PIECE, m - o);
      const src = input(type, at(x, type, start + o), 1, count, scratchRow(9));
      largest = max<f32>(largest, shiftAndMax(values + (<usize>o << 2), src, count, shift));
    }
    const floored = max<f32>(largest, <f32>1e-38);
    store<f32>(absmax + (<usize>b << 2), m == block ? largest : floored);
    // A padded end: zeros up to a multiple of 8.
    for (let i = m; i & 7; i++) store<f32>(values + (<usize>i << 2), 0);
    const reciprocal = f32x4.splat(<f32>1 / floored);
    const divisor = f32x4.splat(floored);
    const out = codes + (<usize>start >> 1);
    for (let i = 0; i < m; i += 8) {
      const p = values + (<usize>i << 2);
      let u = v128.load(p);
      let v = v128.load(p, 16);
      u = m == block ? f32x4.mul(u, reciprocal) : f32x4.div(u, divisor);
      v = m == block ? f32x4.mul(v, reciprocal) : f32x4.div(v, divisor);
      u = code4(f32x4.pmax(f32x4.pmin(u, one), minusOne), table, order);
      v = code4(f32x4.pmax(f32x4.pmin(v, one), minusOne), table, order);
      // Even elements make the high nibbles.
      const high = v128.shuffle<i32>(u, v, 0, 2, 4, 6);
      const low = v128.shuffle<i32>(u, v, 1, 3, 5, 7);
      const bytes = v128.or(i32x4.shl(high, 4), low);
      const packed = v128.shuffle<i8>(bytes, bytes, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
      const to = out + (<usize>i >> 1);
      const count = (min<i32>(8, m - i) + 1) >> 1;
      if (count == 4) v128.store_lane<u32>(to, packed, 0);
      else {
        const word = i32x4.extract_lane(packed, 0);
        for (let k = 0; k < count; k++) store<u8>(to + <usize>k, <u8>(word >>> (8 * k)));
      }
    }
  }
}

/** 8-bit codes: the value goes through 65,536 bins, and a bin's code is the number of midpoints below the bin's own value. */
export function quantize8(
  x: usize, type: i32, n: i32, block: i32, book: usize, offset: usize, codes: usize, absmax: usize, begin: i32, end: i32,
): void {
  const values = scratchRow(0);
  const shift: f32 = offset ? load<f32>(offset) : 0;
  for (let b = begin; b < end; b++) {
    const start = b * block;
    const m = min<i32>(block, n - start);
    let largest: f32 = 0;
    for (let o = 0; o < m; o += PIECE) {
      const count = min<i32>(PIECE, m - o);
      const src = input(type, at(x, type, start + o), 1, count, scratchRow(9));
      largest = max<f32>(largest, shiftAndMax(values + (<usize>o << 2), src, count, shift));
    }
    store<f32>(absmax + (<usize>b << 2), largest);
    const out = codes + <usize>start;
    if (largest == 0) {
      memory.fill(out, 0, <usize>m);
      continue;
    }
    const reciprocal: f32 = <f32>1 / largest;
    for (let i = 0; i < m; i++) {
      let s = load<f32>(values + (<usize>i << 2)) * reciprocal;
      s = s < -1 ? -1 : s > 1 ? 1 : s;
      const bin = <u32>((s + 1) * <f32>0.5 * <f32>65535 + <f32>0.5) & 0xffff;
      const value: f32 = <f32>-1 + (<f32>2 * <f32>bin) / <f32>65535;
      let low = 0;
      let high = 255;
      while (low < high) {
        const k = (low + high) >> 1;
        const p = book + (<usize>k << 2);
        if (<f32>0.5 * (load<f32>(p) + load<f32>(p, 4)) < value) low = k + 1;
        else high = k;
      }
      store<u8>(out + <usize>i, <u8>low);
    }
  }
}
