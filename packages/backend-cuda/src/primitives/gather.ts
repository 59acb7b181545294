import { type Call, type Gather, isFloat, type ScatterAdd, sizeOf } from '@lowrank/kernels';
import type { CudaDevice } from '../runtime/device.ts';
import { aligned, codeOf, join, rangeOf } from '../runtime/views.ts';
import { copyView } from './elementwise.ts';

export function gather(device: CudaDevice, { inputs: { table, ids }, outputs: { y } }: Call<Gather>): void {
  const count = sizeOf(ids.shape);
  const width = sizeOf(table.shape.slice(1));
  if (count * width === 0) return;
  const rows = table.shape[0]!;
  const rank = ids.shape.length;
  const outer = join(ids.shape, [ids.strides, y.strides.slice(0, rank)]);
  const row = join(table.shape.slice(1), [table.strides.slice(1), y.strides.slice(rank)]);
  const signed = ids.dtype === 'i32' ? 1 : 0;
  const tableRow = table.strides[0]!;
  const dense =
    row.shape.length === 1 &&
    row.strides.every((s) => s[0] === 1) &&
    outer.shape.length === 1 &&
    outer.strides[0]![0] === 1 &&
    (count === 1 || outer.strides[1]![0] === width);
  // An empty table gives zeros without an address to read.
  const source = rows > 0 ? rangeOf(table) : undefined;
  if (dense && isFloat(table.dtype) && isFloat(y.dtype) && width % 8 === 0 && tableRow % 8 === 0 && aligned(table, y)) {
    const list = device
      .launch('gather_dense', [device.blocks((count * width) / 8)], 256)
      .optionalPointer(source)
      .pointer(rangeOf(ids))
      .pointer(rangeOf(y));
    return device.done(
      list.i64(count).i64(rows).i64(width).i64(tableRow).i32(signed).i32(codeOf[table.dtype]).i32(codeOf[y.dtype]),
    );
  }
  const list = device
    .launch('gather_strided', [device.blocks(count * width)], 256)
    .optionalPointer(source)
    .pointer(rangeOf(ids))
    .pointer(rangeOf(y));
  list
    .shape(outer.shape)
    .strides(outer.strides[0]!)
    .strides(outer.strides[1]!)
    .shape(row.shape)
    .strides(row.strides[0]!)
    .strides(row.strides[1]!);
  device.done(list.i64(rows).i64(tableRow).i32(signed).i32(codeOf[table.dtype]).i32(codeOf[y.dtype]));
}

export function scatterAdd(device: CudaDevice, { inputs: { into, ids, x }, outputs: { y } }: Call<ScatterAdd>): void {
  if (sizeOf(y.shape) === 0) return;
  const same =
    y.buffer === into.buffer && y.byteOffset === into.byteOffset && y.strides.every((s, i) => s === into.strides[i]);
  if (!same) copyView(device, into, y);
  const count = sizeOf(ids.shape);
  const width = sizeOf(y.shape.slice(1));
  if (count * width === 0) return;
  const rank = ids.shape.length;
  const outer = join(ids.shape, [ids.strides, x.strides.slice(0, rank)]);
  const row = join(y.shape.slice(1), [x.strides.slice(rank), y.strides.slice(1)]);
  const list = device
    .launch('scatter_add', [count, Math.ceil(width / 1024)], 256)
    .pointer(rangeOf(ids))
    .pointer(rangeOf(x))
    .pointer(rangeOf(y));
  list
    .shape(outer.shape)
    .strides(outer.strides[0]!)
    .strides(outer.strides[1]!)
    .shape(row.shape)
    .strides(row.strides[0]!)
    .strides(row.strides[1]!);
  device.done(
    list
      .i64(y.shape[0]!)
      .i64(y.strides[0]!)
      .i32(ids.dtype === 'i32' ? 1 : 0)
      .i32(codeOf[x.dtype])
      .i32(codeOf[y.dtype]),
  );
}
