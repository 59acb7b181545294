import {
  bytesOf,
  type Dequantize,
  type DType,
  type FusedKernel,
  isContiguous,
  type MapOperands,
  type QuantAttrs,
  type Quantize,
  type QuantMatmul,
  type QuantViews,
  quantBits,
  type Refusal,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { castView, copyView } from '../primitives/elementwise.ts';
import { product } from '../primitives/product.ts';
import type { CommandList } from '../runtime/commands.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { fastDivide } from '../runtime/fastdiv.ts';
import type { GemmPlans } from '../runtime/gemm.ts';
import { codeOf, rangeOf, rowsOf } from '../runtime/views.ts';

/** Rows of x up to which the weight is read as codes, not written out. */
const vectorRows = 8;

type QuantSpecs = MapOperands<QuantViews, TensorSpec>;

/** Refuses operands that are not packed. */
export function acceptsQuant(w: QuantSpecs): true | Refusal {
  for (const [name, spec] of Object.entries(w))
    if (spec && !isContiguous(spec)) return { refused: `${name} is not contiguous` };
  return true;
}

/** `struct Quantized`. */
export function quantized(list: CommandList, w: QuantViews, { blockSize }: QuantAttrs): CommandList {
  list.pointer(rangeOf(w.codes)).pointer(rangeOf(w.absmax)).pointer(rangeOf(w.codebook));
  for (const v of [w.nestedAbsmax, w.nestedCodebook, w.offset])
    list.optionalPointer(w.absmax.dtype === 'u8' ? v && rangeOf(v) : undefined);
  return list.i32(Math.log2(blockSize)).i32(0);
}

/** Writes the values of a quantized tensor as rows of `cols` elements at pitch `ld`, from the start of `y`. */
export function dequantizeRows(
  device: CudaDevice,
  w: QuantViews,
  attrs: QuantAttrs,
  y: View,
  cols: number,
  ld: number,
): void {
  const n = sizeOf(attrs.shape);
  if (n === 0) return;
  const bits = quantBits[attrs.quantType];
  const target = { ...rangeOf(y), bytes: ((Math.ceil(n / cols) - 1) * ld + cols) * bytesOf[y.dtype] };
  let first = 0;
  const packed = ld === cols;
  if (
    bits === 4 &&
    w.codes.byteOffset % 4 === 0 &&
    y.byteOffset % 16 === 0 &&
    n >= 8 &&
    n < 2 ** 33 &&
    (packed || (cols % 8 === 0 && ld % 8 === 0))
  ) {
    const fine = attrs.blockSize < 64;
    const list = device.launch(`dequantize4_${fine ? 'fine' : y.dtype}`, [Math.ceil(Math.floor(n / 8) / 2048)], 256);
    quantized(list, w, attrs)
      .pointer(target)
      .i64(n)
      .i64(packed ? 0 : ld);
    fastDivide(list, packed ? 1 : cols / 8);
    device.done(fine ? list.i32(codeOf[y.dtype]) : list);
    first = Math.floor(n / 8) * 8;
  }
  if (first === n) return;
  const list = device.launch('dequantize_any', [device.blocks(n - first)], 256);
  device.done(
    quantized(list, w, attrs).pointer(target).i64(first).i64(n).i64(cols).i64(ld).i32(bits).i32(codeOf[y.dtype]),
  );
}

export const dequantize = (device: CudaDevice): FusedKernel<Dequantize> => ({
  accepts: ({ inputs: { weight }, outputs: { y } }) =>
    rowsOf(y) ? acceptsQuant(weight) : { refused: 'y has no contiguous rows at one pitch' },
  run: ({ inputs: { weight }, outputs: { y }, attrs }) => {
    const n = Math.max(sizeOf(attrs.shape), 1);
    const { width, pitch } = rowsOf(y)!;
    if (pitch === width) dequantizeRows(device, weight, attrs, y, n, n);
    else dequantizeRows(device, weight, attrs, y, width, pitch);
  },
});

export const quantize = (device: CudaDevice): FusedKernel<Quantize> => ({
  accepts: ({ inputs: { x, codebook }, outputs: { codes, absmax } }) =>
    [x, codebook, codes, absmax].every(isContiguous) ? true : { refused: 'an operand is not contiguous' },
  run: ({ inputs: { x, codebook, offset }, outputs: { codes, absmax }, attrs: { quantType, blockSize } }) => {
    const n = sizeOf(x.shape);
    if (n === 0) return;
    const bits = quantBits[quantType];
    const blocks = Math.ceil(n / blockSize);
    const whole = Math.floor(n / blockSize);
    const minus = offset && rangeOf(offset);
    let first = 0;
    if (bits === 4 && blockSize <= 256 && whole > 0 && x.byteOffset % 16 === 0 && codes.byteOffset % 4 === 0) {
      const count = whole * blockSize;
      const list = device
        .launch('quantize4_blocks', [device.blocks(count / 8)], 256)
        .pointer(rangeOf(x))
        .optionalPointer(minus)
        .pointer(rangeOf(codes))
        .pointer(rangeOf(absmax));
      device.done(
        list
          .i64(count)
          .i32(Math.log2(blockSize))
          .i32(codeOf[x.dtype])
          .i32(quantType === 'fp4' ? 1 : 0),
      );
      first = whole;
    }
    // A grid's x axis takes any number of blocks that memory can hold.
    if (first === blocks) return;
    const list = device
      .launch('quantize_any', [blocks - first], blockSize >= 1024 ? 256 : 64)
      .pointer(rangeOf(x))
      .pointer(rangeOf(codebook))
      .optionalPointer(minus)
      .pointer(rangeOf(codes))
      .pointer(rangeOf(absmax));
    device.done(
      list
        .i64(n)
        .i64(blockSize)
        .i64(first)
        .i32(codeOf[x.dtype])
        .i32(bits)
        .i32(quantType === 'fp4' ? 1 : 0),
    );
  },
});

/** The fused product for few rows takes the call. */
function asVectors(
  { x, weight }: { x: TensorSpec; weight: QuantSpecs },
  { quantType, shape, transposed }: QuantAttrs & { transposed: boolean },
): boolean {
  const rows = rowsOf(x);
  return (
    !transposed &&
    quantBits[quantType] === 4 &&
    x.shape[0]! <= vectorRows &&
    shape[1]! % 8 === 0 &&
    rows !== undefined &&
    rows.pitch % 8 === 0 &&
    weight !== undefined
  );
}

export const quantMatmul = (device: CudaDevice, plans: GemmPlans): FusedKernel<QuantMatmul> => ({
  accepts: ({ inputs: { weight } }) => acceptsQuant(weight),
  workspace: ({ inputs: { x }, attrs }) => sizeOf(attrs.shape) * bytesOf[x.dtype],
  run: ({ inputs: { x, weight, c }, outputs: { y }, attrs, workspace }) => {
    if (sizeOf(y.shape) === 0) return;
    const [n, k] = attrs.shape as [number, number];
    if (
      k > 0 &&
      asVectors({ x, weight }, attrs) &&
      x.byteOffset % 16 === 0 &&
      weight.codes.byteOffset % 4 === 0 &&
      (y.shape[1] === 1 || y.strides[1] === 1)
    )
      return vectors(device, x, weight, c, y, attrs);
    if (!workspace || n * k === 0) {
      if (c) castView(device, c, y);
      else device.fill(y, 0);
      return;
    }
    const dense: View = {
      buffer: workspace.buffer,
      byteOffset: workspace.byteOffset,
      dtype: x.dtype as DType,
      shape: [n, k],
      strides: [k, 1],
    };
    dequantizeRows(device, weight, attrs, dense, k, k);
    const b: View = attrs.transposed ? dense : { ...dense, shape: [k, n], strides: [1, k] };
    const adds = c !== undefined;
    if (adds && c.dtype === y.dtype) copyViewUnlessSame(device, c, y);
    product(device, plans, x, b, y, { c: adds ? (c.dtype === y.dtype ? y : c) : undefined });
  },
});

function copyViewUnlessSame(device: CudaDevice, c: View, y: View): void {
  if (c.buffer === y.buffer && c.byteOffset === y.byteOffset && c.strides.every((s, i) => s === y.strides[i])) return;
  copyView(device, c, y);
}

/** Elements of x that a warp of `quant_row` keeps, and partial sums of a block. */
const rowSlice = 1024;
const rowPartials = 2048;

/** One row of x: blocks of 16 warps or fewer, one a multiprocessor. */
function oneRow(
  device: CudaDevice,
  x: View,
  weight: QuantViews,
  c: View | undefined,
  y: View,
  attrs: QuantAttrs,
): void {
  const [n, k] = attrs.shape as [number, number];
  const slices = Math.ceil(k / rowSlice);
  const groups = Math.floor(16 / slices);
  const rows = Math.min(Math.ceil(n / device.info.multiprocessors), Math.floor(rowPartials / slices));
  const list = device.launch('quant_row', [Math.ceil(n / rows)], 32 * slices * groups).pointer(rangeOf(x));
  quantized(list, weight, attrs)
    .optionalPointer(c && rangeOf(c))
    .pointer(rangeOf(y))
    .i32(n)
    .i64(k)
    .i64(c?.strides[1] ?? 0)
    .i32(codeOf[x.dtype]);
  device.done(
    list
      .i32(codeOf[(c ?? y).dtype])
      .i32(slices)
      .i32(rows),
  );
}

/** One row of x in half precision. False where the shape is not one for `quant_row_*`. */
function oneHalfRow(
  device: CudaDevice,
  x: View,
  weight: QuantViews,
  c: View | undefined,
  y: View,
  attrs: QuantAttrs,
): boolean {
  const [n, k] = attrs.shape as [number, number];
  const slices = Math.ceil(k / 512);
  const tiles = Math.ceil(n / 16);
  const perBlock = Math.ceil(tiles / device.info.multiprocessors);
  if (
    x.dtype === 'f32' ||
    y.dtype !== x.dtype ||
    k % 64 !== 0 ||
    attrs.blockSize % 64 !== 0 ||
    weight.codes.byteOffset % 16 !== 0 ||
    slices * 1024 + perBlock * slices * 64 > 60 << 10
  )
    return false;
  const list = device.launch(`quant_row_${x.dtype}`, [Math.ceil(tiles / perBlock)], 512, 128 << 10).pointer(rangeOf(x));
  quantized(list, weight, attrs)
    .optionalPointer(c && rangeOf(c))
    .pointer(rangeOf(y))
    .i32(n)
    .i32(k)
    .i64(c?.strides[1] ?? 0);
  device.done(
    list
      .i32(codeOf[(c ?? y).dtype])
      .i32(slices)
      .i32(perBlock),
  );
  return true;
}

/** Rows of W that a warp of `quant_tile` takes, elements of x of a task, and most bytes of x and of partial sums in shared memory. */
const tile = { rows: 16, slice: 512, bytes: 160 << 10 } as const;

function tileShape(device: CudaDevice, M: number, n: number, k: number) {
  const slices = Math.ceil(k / tile.slice);
  const tiles = Math.ceil(n / tile.rows);
  const perBlock = Math.ceil(tiles / device.info.multiprocessors);
  return { slices, tiles, perBlock, bytes: M * k * 2 + perBlock * slices * tile.rows * M * 4 };
}

/** Whether `quant_tile` takes the call: several rows (one is faster by `quant_row`), half precision, whole blocks of 64, x and its sums in shared memory. */
function tileRows(device: CudaDevice, x: View, weight: QuantViews, y: View, attrs: QuantAttrs): boolean {
  const [n, k] = attrs.shape as [number, number];
  const M = x.shape[0]!;
  return (
    M > 1 &&
    x.dtype !== 'f32' &&
    y.dtype === x.dtype &&
    k % 64 === 0 &&
    attrs.blockSize % 64 === 0 &&
    weight.codes.byteOffset % 8 === 0 &&
    tileShape(device, M, n, k).bytes <= tile.bytes
  );
}

function oneTile(
  device: CudaDevice,
  x: View,
  weight: QuantViews,
  c: View | undefined,
  y: View,
  attrs: QuantAttrs,
): void {
  const [n, k] = attrs.shape as [number, number];
  const M = x.shape[0]!;
  const { slices, tiles, perBlock, bytes } = tileShape(device, M, n, k);
  const list = device.launch(`quant_tile_${x.dtype}`, [Math.ceil(tiles / perBlock)], 512, bytes).pointer(rangeOf(x));
  quantized(list, weight, attrs)
    .optionalPointer(c && rangeOf(c))
    .pointer(rangeOf(y))
    .i64(n)
    .i64(k)
    .i64(x.strides[0]!);
  list
    .i64(c?.strides[0] ?? 0)
    .i64(c?.strides[1] ?? 0)
    .i64(y.strides[0]!)
    .i32(M);
  device.done(
    list
      .i32(codeOf[(c ?? y).dtype])
      .i32(slices)
      .i32(perBlock),
  );
}

function vectors(
  device: CudaDevice,
  x: View,
  weight: QuantViews,
  c: View | undefined,
  y: View,
  attrs: QuantAttrs,
): void {
  const [n, k] = attrs.shape as [number, number];
  const rows = x.shape[0]!;
  if (tileRows(device, x, weight, y, attrs)) return oneTile(device, x, weight, c, y, attrs);
  if (rows === 1 && oneHalfRow(device, x, weight, c, y, attrs)) return;
  if (rows === 1 && k % 32 === 0 && k <= 16 * rowSlice && attrs.blockSize >= 32 && weight.codes.byteOffset % 16 === 0)
    return oneRow(device, x, weight, c, y, attrs);
  const row = (v: View, m: number): View => ({ ...v, byteOffset: v.byteOffset + m * v.strides[0]! * bytesOf[v.dtype] });
  for (let m = 0; m < rows; ) {
    const count = rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
    const part = (v: View): View => ({ ...row(v, m), shape: [count, v.shape[1]!] });
    const list = device.launch(`quant_vector_${count}`, [Math.ceil(n / 8)], 256).pointer(rangeOf(part(x)));
    quantized(list, weight, attrs)
      .optionalPointer(c && rangeOf(part(c)))
      .pointer(rangeOf(part(y)))
      .i64(n)
      .i64(k)
      .i64(x.strides[0]!);
    list
      .i64(c?.strides[0] ?? 0)
      .i64(c?.strides[1] ?? 0)
      .i64(y.strides[0]!)
      .i32(codeOf[x.dtype]);
    device.done(list.i32(codeOf[(c ?? y).dtype]));
    m += count;
  }
}
