// Rows of any element type and step, brought to contiguous f32 (or i32) in scratch and back, a piece at a time; and where row r of an operand lies.
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, narrowBf16, narrowF16, widenBf16, widenF16 } from './convert.as';
import { scratch } from './runtime.as';
import { BF16, F16, F32, I32, U32, U8 } from './simd.as';

/** Elements of a piece: what a scratch row holds. */
export const PIECE: i32 = 1024;

/** Scratch row `i` (0…15). */
@inline
export function scratchRow(i: i32): usize {
  return scratch() + <usize>(i * PIECE * 4);
}

/** log2 of the bytes of an element. */
@inline
export function elementShift(type: i32): i32 {
  return type == F16 || type == BF16 ? 1 : type == U8 ? 0 : 2;
}

@inline
export function isFloatType(type: i32): bool {
  return type <= BF16;
}

@inline
export function at(p: usize, type: i32, index: i32): usize {
  return p + (<usize>index << elementShift(type));
}

/**
 * A descriptor gives the leading axes: word 0 their number (at most 8), words 1…8 their lengths, words 9 + 8j… the strides of operand j, in
 * elements. Offset of row `row` (row-major over the leading axes) for operand `operand`.
 */
export function rowOffset(desc: usize, operand: i32, row: i32): i32 {
  const rank = load<i32>(desc);
  if (rank == 0) return 0;
  const strides = desc + 36 + <usize>(operand << 5);
  let offset = 0;
  for (let d = rank - 1; d > 0; d--) {
    const size = load<i32>(desc + 4 + (<usize>d << 2));
    offset += <i32>(<u32>row % <u32>size) * load<i32>(strides + (<usize>d << 2));
    row = <i32>(<u32>row / <u32>size);
  }
  return offset + row * load<i32>(strides);
}

@inline
export function rowAt(p: usize, type: i32, desc: usize, operand: i32, row: i32): usize {
  return at(p, type, rowOffset(desc, operand, row));
}

/** dst[i] = f32 of element i·step. */
export function loadRow(dst: usize, type: i32, p: usize, step: i32, n: i32): void {
  if (step == 0 && n > 0) {
    const v = f32x4.splat(loadOne(type, p));
    for (let i = 0; i < n; i += 4) v128.store(dst + (<usize>i << 2), v);
  } else if (step == 1 && type == F32) memory.copy(dst, p, <usize>n << 2);
  else if (step == 1 && type == F16) widenF16(dst, p, n);
  else if (step == 1 && type == BF16) widenBf16(dst, p, n);
  else {
    const stride = <usize>step << elementShift(type);
    for (let i = 0; i < n; i++) {
      store<f32>(dst + (<usize>i << 2), loadOne(type, p));
      p += stride;
    }
  }
}

/** One element of any type as f32. */
@inline
export function loadOne(type: i32, p: usize): f32 {
  if (type == F32) return load<f32>(p);
  if (type == BF16) return bf16ToF32(load<u16>(p));
  if (type == F16) return f16ToF32(load<u16>(p));
  if (type == I32) return <f32>load<i32>(p);
  if (type == U32) return <f32>load<u32>(p);
  return <f32>load<u8>(p);
}

/** Stores f32 as any type: floats round to nearest even, integers truncate and saturate, NaN gives 0. */
@inline
export function storeOne(type: i32, p: usize, x: f32): void {
  if (type == F32) store<f32>(p, x);
  else if (type == BF16) store<u16>(p, <u16>f32ToBf16(x));
  else if (type == F16) store<u16>(p, <u16>f32ToF16(x));
  else if (type == I32) store<i32>(p, <i32>x);
  else if (type == U32) store<u32>(p, <u32>x);
  else {
    const u = <u32>x;
    store<u8>(p, u > 255 ? 255 : <u8>u);
  }
}

/** Element i·step = src[i]. */
export function storeRow(type: i32, p: usize, step: i32, src: usize, n: i32): void {
  if (step == 1 && type == F32) memory.copy(p, src, <usize>n << 2);
  else if (step == 1 && type == F16) narrowF16(p, src, n);
  else if (step == 1 && type == BF16) narrowBf16(p, src, n);
  else {
    const stride = <usize>step << elementShift(type);
    for (let i = 0; i < n; i++) {
      storeOne(type, p, load<f32>(src + (<usize>i << 2)));
      p += stride;
    }
  }
}

/** Where to read a row as contiguous f32: itself, or `temp` after conversion. */
@inline
export function input(type: i32, p: usize, step: i32, n: i32, temp: usize): usize {
  if (type == F32 && step == 1) return p;
  loadRow(temp, type, p, step, n);
  return temp;
}

/** Where to write a row as contiguous f32: itself, or `temp`, which `flush` then stores. */
@inline
export function output(type: i32, p: usize, step: i32, temp: usize): usize {
  return type == F32 && step == 1 ? p : temp;
}

@inline
export function flush(type: i32, p: usize, step: i32, temp: usize, n: i32): void {
  if (type != F32 || step != 1) storeRow(type, p, step, temp, n);
}

/** dst[i] = i32 (or u32 bits, or u8 widened) of element i·step of an integer row. */
export function loadInts(dst: usize, type: i32, p: usize, step: i32, n: i32): void {
  const stride = <usize>step << elementShift(type);
  for (let i = 0; i < n; i++) {
    store<i32>(dst + (<usize>i << 2), type == U8 ? <i32>load<u8>(p) : load<i32>(p));
    p += stride;
  }
}

/** Element i·step = low bits of src[i]. */
export function storeInts(type: i32, p: usize, step: i32, src: usize, n: i32): void {
  const stride = <usize>step << elementShift(type);
  for (let i = 0; i < n; i++) {
    const v = load<i32>(src + (<usize>i << 2));
    if (type == U8) store<u8>(p, <u8>v);
    else store<i32>(p, v);
    p += stride;
  }
}

/** Moves n elements of the same size. */
export function moveRow(dst: usize, dstStep: i32, src: usize, srcStep: i32, shift: i32, n: i32): void {
  if (dstStep == 1 && srcStep == 1) {
    memory.copy(dst, src, <usize>n << shift);
    return;
  }
  const d = <usize>dstStep << shift;
  const s = <usize>srcStep << shift;
  if (shift == 2) {
    for (let i = 0; i < n; i++) {
      store<u32>(dst, load<u32>(src));
      dst += d;
      src += s;
    }
  } else if (shift == 1) {
    for (let i = 0; i < n; i++) {
      store<u16>(dst, load<u16>(src));
      dst += d;
      src += s;
    }
  } else {
    for (let i = 0; i < n; i++) {
      store<u8>(dst, load<u8>(src));
      dst += d;
      src += s;
    }
  }
}

/** A row in another element type; n at most PIECE. Scratch row 15 is used. */
export function castRow(dstType: i32, dst: usize, dstStep: i32, srcType: i32, src: usize, srcStep: i32, n: i32): void {
  if (dstType == srcType) {
    moveRow(dst, dstStep, src, srcStep, elementShift(dstType), n);
    return;
  }
  const temp = scratchRow(15);
  if (isFloatType(srcType) || isFloatType(dstType)) {
    const x = input(srcType, src, srcStep, n, temp);
    storeRow(dstType, dst, dstStep, x, n);
  } else {
    loadInts(temp, srcType, src, srcStep, n);
    storeInts(dstType, dst, dstStep, temp, n);
  }
}
