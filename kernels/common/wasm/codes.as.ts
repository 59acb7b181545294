// Blockwise codes to f32: value = codebook[code] · absmax[flat index / block size]. Two 4-bit codes a byte, the first in the high half.
import { BF16, CODES4, CODES8, F16, F32, lookup16 } from './simd.as';
import { widenBf16, widenF16 } from './convert.as';

/**
 * dst[0…count) = values of the flat elements start…start + count of a 4-bit tensor.
 * The 16 f32 of the codebook are split into four tables of bytes, so that one swizzle looks up a byte of 16 values.
 */
export function dequantize4(dst: usize, codes: usize, absmax: usize, book: usize, block: i32, start: i32, count: i32): void {
  const v0 = v128.load(book);
  const v1 = v128.load(book, 16);
  const v2 = v128.load(book, 32);
  const v3 = v128.load(book, 48);
  // Transpose 16 × 4 bytes: gather byte j of each value.
  const a0 = v128.shuffle<i8>(v0, v1, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const a1 = v128.shuffle<i8>(v2, v3, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const b0 = v128.shuffle<i8>(v0, v1, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
  const b1 = v128.shuffle<i8>(v2, v3, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
  const t0 = v128.shuffle<i64>(a0, a1, 0, 2);
  const t1 = v128.shuffle<i64>(a0, a1, 1, 3);
  const t2 = v128.shuffle<i64>(b0, b1, 0, 2);
  const t3 = v128.shuffle<i64>(b0, b1, 1, 3);
  const low = i8x16.splat(15);
  let i = start;
  const end = start + count;
  while (i < end) {
    const blockIndex = <u32>i / <u32>block;
    const blockEnd = <i32>min<i64>(<i64>end, (<i64>blockIndex + 1) * block);
    const scale = load<f32>(absmax + (<usize>blockIndex << 2));
    const s = f32x4.splat(scale);
    if (i & 1) {
      store<f32>(dst, load<f32>(book + ((<usize>load<u8>(codes + (<usize>i >> 1)) & 15) << 2)) * scale);
      dst += 4;
      i++;
    }
    for (; i + 16 <= blockEnd; i += 16) {
      const bytes = v128.load_zero<u64>(codes + (<usize>i >> 1));
      const hi = v128.and(i16x8.shr_u(bytes, 4), low);
      const lo = v128.and(bytes, low);
      const index = v128.shuffle<i8>(hi, lo, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const x0 = lookup16(t0, index);
      const x1 = lookup16(t1, index);
      const x2 = lookup16(t2, index);
      const x3 = lookup16(t3, index);
      const p = v128.shuffle<i8>(x0, x1, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const q = v128.shuffle<i8>(x0, x1, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      const r = v128.shuffle<i8>(x2, x3, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const t = v128.shuffle<i8>(x2, x3, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      v128.store(dst, f32x4.mul(v128.shuffle<i16>(p, r, 0, 8, 1, 9, 2, 10, 3, 11), s));
      v128.store(dst, f32x4.mul(v128.shuffle<i16>(p, r, 4, 12, 5, 13, 6, 14, 7, 15), s), 16);
      v128.store(dst, f32x4.mul(v128.shuffle<i16>(q, t, 0, 8, 1, 9, 2, 10, 3, 11), s), 32);
      v128.store(dst, f32x4.mul(v128.shuffle<i16>(q, t, 4, 12, 5, 13, 6, 14, 7, 15), s), 48);
      dst += 64;
    }
    for (; i < blockEnd; i++) {
      const byte = <usize>load<u8>(codes + (<usize>i >> 1));
      const code = i & 1 ? byte & 15 : byte >> 4;
      store<f32>(dst, load<f32>(book + (code << 2)) * scale);
      dst += 4;
    }
  }
}

/** The same for 8-bit codes over a codebook of 256 f32. */
export function dequantize8(dst: usize, codes: usize, absmax: usize, book: usize, block: i32, start: i32, count: i32): void {
  let i = start;
  const end = start + count;
  while (i < end) {
    const blockIndex = <u32>i / <u32>block;
    const blockEnd = <i32>min<i64>(<i64>end, (<i64>blockIndex + 1) * block);
    const scale = load<f32>(absmax + (<usize>blockIndex << 2));
    for (; i < blockEnd; i++) {
      store<f32>(dst, load<f32>(book + (<usize>load<u8>(codes + <usize>i) << 2)) * scale);
      dst += 4;
    }
  }
}

/** dst[0…count) = f32 of elements start…start + count of an array of any operand type. */
export function fetch(dst: usize, type: i32, p: usize, absmax: usize, book: usize, block: i32, start: i32, count: i32): void {
  if (type == F32) memory.copy(dst, p + (<usize>start << 2), <usize>count << 2);
  else if (type == F16) widenF16(dst, p + (<usize>start << 1), count);
  else if (type == BF16) widenBf16(dst, p + (<usize>start << 1), count);
  else if (type == CODES4) dequantize4(dst, p, absmax, book, block, start, count);
  else if (type == CODES8) dequantize8(dst, p, absmax, book, block, start, count);
}
