import {
  type Binary,
  binaryOps,
  bytesOf,
  type Call,
  type Cast,
  type Copy,
  type Fill,
  type Iota,
  isFloat,
  type Random,
  type Select,
  sizeOf,
  type Unary,
  unaryOps,
  type View,
} from '@lowrank/kernels';
import type { CudaDevice } from '../runtime/device.ts';
import { encodeScalar } from '../runtime/scalar.ts';
import { aligned, codeOf, join, rangeOf } from '../runtime/views.ts';

const unaryCode = Object.fromEntries(Object.keys(unaryOps).map((op, i) => [op, i]));
const binaryCode = Object.fromEntries(Object.keys(binaryOps).map((op, i) => [op, i]));

/** The joined views are one run of elements without gaps, at addresses that 16-byte moves allow. */
function dense(joined: ReturnType<typeof join>, ...views: readonly View[]): boolean {
  return joined.shape.length === 1 && joined.strides.every((s) => s[0] === 1) && aligned(...views);
}

export function unary(
  device: CudaDevice,
  { inputs: { x }, outputs: { y }, attrs: { op, p = 0, q = 0 } }: Call<Unary>,
): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const joined = join(y.shape, [x.strides, y.strides], 1);
  const list =
    dense(joined, x, y) && isFloat(x.dtype)
      ? device
          .launch('unary_dense', [device.blocks(n / 8)], 256)
          .pointer(rangeOf(x))
          .pointer(rangeOf(y))
          .i64(n)
      : device
          .launch('unary_strided', [device.blocks(n)], 256)
          .pointer(rangeOf(x))
          .pointer(rangeOf(y))
          .shape(joined.shape)
          .strides(joined.strides[0]!)
          .strides(joined.strides[1]!);
  device.done(list.i32(codeOf[x.dtype]).i32(unaryCode[op]!).f64(p).f64(q));
}

export function binary(device: CudaDevice, { inputs: { a, b }, outputs: { y }, attrs: { op } }: Call<Binary>): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const { kind } = binaryOps[op];
  const joined = join(y.shape, [a.strides, b.strides, y.strides], 2);
  if (dense(joined, a, b, y) && isFloat(a.dtype)) {
    const list = device
      .launch('binary_dense', [device.blocks(n / 8)], 256)
      .pointer(rangeOf(a))
      .pointer(rangeOf(b))
      .pointer(rangeOf(y))
      .i64(n);
    return device.done(
      list
        .i32(codeOf[a.dtype])
        .i32(binaryCode[op]!)
        .i32(kind === 'compare' ? 1 : 0),
    );
  }
  const list = device
    .launch('binary_strided', [device.blocks(n)], 256)
    .pointer(rangeOf(a))
    .pointer(rangeOf(b))
    .pointer(rangeOf(y));
  list.shape(joined.shape).strides(joined.strides[0]!).strides(joined.strides[1]!).strides(joined.strides[2]!);
  const code = kind === 'compare' ? 1 : kind === 'bits' ? 2 : op === 'mul' && !isFloat(a.dtype) ? 3 : 0;
  device.done(list.i32(codeOf[a.dtype]).i32(binaryCode[op]!).i32(code));
}

export function select(device: CudaDevice, { inputs: { cond, a, b }, outputs: { y } }: Call<Select>): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const { shape, strides } = join(y.shape, [cond.strides, a.strides, b.strides, y.strides], 3);
  const list = device
    .launch('select_strided', [device.blocks(n)], 256)
    .pointer(rangeOf(cond))
    .pointer(rangeOf(a))
    .pointer(rangeOf(b))
    .pointer(rangeOf(y))
    .shape(shape);
  for (const s of strides) list.strides(s);
  device.done(list.i32(bytesOf[y.dtype]));
}

export function cast(device: CudaDevice, { inputs: { x }, outputs: { y } }: Call<Cast>): void {
  castView(device, x, y);
}

/** y = x in y's dtype. */
export function castView(device: CudaDevice, x: View, y: View): void {
  if (x.dtype === y.dtype) return copyView(device, x, y);
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const joined = join(y.shape, [x.strides, y.strides], 1);
  const list =
    dense(joined, x, y) && isFloat(x.dtype) && isFloat(y.dtype)
      ? device
          .launch('cast_dense', [device.blocks(n / 8)], 256)
          .pointer(rangeOf(x))
          .pointer(rangeOf(y))
          .i64(n)
      : device
          .launch('cast_strided', [device.blocks(n)], 256)
          .pointer(rangeOf(x))
          .pointer(rangeOf(y))
          .shape(joined.shape)
          .strides(joined.strides[0]!)
          .strides(joined.strides[1]!);
  device.done(list.i32(codeOf[x.dtype]).i32(codeOf[y.dtype]));
}

export function copy(device: CudaDevice, { inputs: { x }, outputs: { y } }: Call<Copy>): void {
  copyView(device, x, y);
}

/** y = x, of one dtype, from any strides to any strides. */
export function copyView(device: CudaDevice, x: View, y: View): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const size = bytesOf[y.dtype];
  const joined = join(y.shape, [x.strides, y.strides], 1);
  const [sx, sy] = joined.strides as [number[], number[]];
  const last = joined.shape.length - 1;
  if (transposes(device, joined, x, y, size)) return;
  // The innermost axis moves in wider pieces where both sides are whole multiples of them.
  let bytes = size;
  const shape = [...joined.shape];
  const wideX = [...sx];
  const wideY = [...sy];
  if (sx[last] === 1 && sy[last] === 1) {
    const fits = (w: number) =>
      (shape[last]! * size) % w === 0 &&
      x.byteOffset % w === 0 &&
      y.byteOffset % w === 0 &&
      [sx, sy].every((s) => s.slice(0, last).every((v) => (v * size) % w === 0));
    bytes = [16, 8, 4, 2].find((w) => w > size && fits(w)) ?? size;
    // A node of the driver between the kernels of a graph costs more than a kernel does, and breaks their overlap; long runs of narrow pieces cost more still.
    if (last === 0 && !(device.recording && (bytes === 16 || n * size <= 1 << 20))) {
      device.commands.copy(rangeOf(y), rangeOf(x));
      return device.enqueued();
    }
    const by = bytes / size;
    shape[last]! /= by;
    for (let i = 0; i < last; i++) {
      wideX[i]! /= by;
      wideY[i]! /= by;
    }
  }
  const list = device
    .launch('copy_strided', [device.blocks(sizeOf(shape))], 256)
    .pointer(rangeOf(x))
    .pointer(rangeOf(y));
  device.done(list.shape(shape).strides(wideX).strides(wideY).i32(bytes));
}

/** A matrix (or a batch of them) that changes its innermost axis goes through shared tiles. */
function transposes(
  device: CudaDevice,
  { shape, strides }: ReturnType<typeof join>,
  x: View,
  y: View,
  size: number,
): boolean {
  const [sx, sy] = strides as [number[], number[]];
  const rank = shape.length;
  if (rank !== 2 && rank !== 3) return false;
  const [rows, cols] = [shape[rank - 2]!, shape[rank - 1]!];
  if (sx[rank - 2] !== 1 || sy[rank - 1] !== 1 || rows < 16 || cols < 16) return false;
  const batch = rank === 3 ? shape[0]! : 1;
  const grid = [Math.ceil(cols / 32), Math.ceil(rows / 32), batch] as const;
  if (grid[1] > 65535 || grid[2] > 65535) return false;
  const list = device
    .launch('copy_transpose', grid, 32, 0, 8)
    .pointer(rangeOf(x))
    .pointer(rangeOf(y))
    .i32(rows)
    .i32(cols);
  list
    .i64(sx[rank - 1]!)
    .i64(sy[rank - 2]!)
    .i64(rank === 3 ? sx[0]! : 0)
    .i64(rank === 3 ? sy[0]! : 0);
  device.done(list.i32(size));
  return true;
}

export function fill(device: CudaDevice, { outputs: { y }, attrs: { value } }: Call<Fill>): void {
  fillView(device, y, value);
}

export function fillView(device: CudaDevice, y: View, value: number): void {
  if (sizeOf(y.shape) === 0) return;
  const bits = encodeScalar(value, y.dtype);
  const bytes = bytesOf[y.dtype] as 1 | 2 | 4;
  const { shape, strides } = join(y.shape, [y.strides], 0);
  if (shape.length === 1 && strides[0]![0] === 1) {
    device.commands.fill(rangeOf(y), bits, bytes);
    return device.enqueued();
  }
  device.done(
    device
      .launch('fill_strided', [device.blocks(sizeOf(shape))], 256)
      .pointer(rangeOf(y))
      .shape(shape)
      .strides(strides[0]!)
      .u32(bits)
      .i32(bytes),
  );
}

export function iota(device: CudaDevice, { outputs: { y }, attrs: { axis, start, step } }: Call<Iota>): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const { shape, strides } = join(y.shape, [y.strides]);
  const list = device
    .launch('iota_strided', [device.blocks(n)], 256)
    .pointer(rangeOf(y))
    .shape(shape)
    .strides(strides[0]!)
    .i32(codeOf[y.dtype]);
  device.done(
    list
      .i64(sizeOf(y.shape.slice(axis + 1)))
      .i64(y.shape[axis]!)
      .f64(start)
      .f64(step),
  );
}

const distributions = { bits: 0, uniform: 1, normal: 2 } as const;

export function random(
  device: CudaDevice,
  { inputs: { seed }, outputs: { y }, attrs: { distribution, site } }: Call<Random>,
): void {
  const n = sizeOf(y.shape);
  if (n === 0) return;
  const { shape, strides } = join(y.shape, [y.strides]);
  const list = device
    .launch('random_strided', [device.blocks(n / 4)], 256)
    .pointer(rangeOf(seed))
    .i64(seed.strides[0]!)
    .pointer(rangeOf(y));
  device.done(
    list
      .shape(shape)
      .strides(strides[0]!)
      .i32(codeOf[y.dtype])
      .i32(distributions[distribution])
      .u32(site >>> 0),
  );
}
