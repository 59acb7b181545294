import { type Call, isFloat, type Reduce, type ReduceOp, sizeOf, type View } from '@lowrank/kernels';
import type { Range } from '../runtime/commands.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { aligned, codeOf, join, rangeOf } from '../runtime/views.ts';

const opCode: Readonly<Record<ReduceOp, number>> = { sum: 0, sumSquares: 1, max: 2, min: 3, argmax: 4 };

/** Blocks that fill a large GPU. A constant: the order of a sum must not depend on the device. */
const fullGrid = 1024;

export function reduce(device: CudaDevice, { inputs: { x }, outputs: { y }, attrs: { op, axes } }: Call<Reduce>): void {
  if (sizeOf(y.shape) === 0) return;
  reduceView(device, x, y, op, axes);
}

/** y = op over `axes` of x, whose axes have length 1 in y. */
function reduceView(device: CudaDevice, x: View, y: View, op: ReduceOp, axes: readonly number[]): void {
  const all = [...x.shape.keys()];
  const keptAxes = all.filter((a) => !axes.includes(a));
  const pick = (from: readonly number[], which: readonly number[]) => which.map((a) => from[a]!);
  const kept = join(
    pick(x.shape, keptAxes),
    [pick(x.strides, keptAxes), pick(y.strides, keptAxes)],
    op === 'argmax' ? undefined : 1,
  );
  const reducedShape = pick(x.shape, axes);
  // The index of an argmax counts along the one axis as it is.
  const reduced = join(reducedShape, [pick(x.strides, axes)], op === 'argmax' ? undefined : 0);
  const outputs = sizeOf(kept.shape);
  const count = sizeOf(reduced.shape);
  const [keptX, keptY] = kept.strides as [number[], number[]];
  const views = {
    x: rangeOf(x),
    kept: kept.shape,
    keptX,
    keptY,
    reduced: reduced.shape,
    reducedX: reduced.strides[0]!,
  };

  if (!isFloat(x.dtype) && op !== 'argmax') {
    const list = device
      .launch('reduce_integers', [device.blocks(outputs)], 256)
      .pointer(views.x)
      .pointer(rangeOf(y));
    list.shape(views.kept).strides(keptX).strides(keptY).shape(views.reduced).strides(views.reducedX);
    return device.done(list.i32(opCode[op]).i32(codeOf[x.dtype]));
  }

  const sums = op === 'sum' || op === 'sumSquares';
  const denseRows =
    sums &&
    reduced.shape.length === 1 &&
    (reduced.strides[0]![0] === 1 || count === 1) &&
    kept.shape.length === 1 &&
    count >= 256 &&
    aligned(x) &&
    (outputs === 1 || (keptX[0]! % 8 === 0 && keptY[0] === 1));
  const columns = !denseRows && op !== 'argmax' && outputs >= 32 && keptX[kept.shape.length - 1] === 1 && count > 0;
  const lanes = columns ? 256 : count >= 4096 ? 512 : count >= 256 ? 128 : 32;
  const blocks = columns ? Math.ceil(outputs / 256) : Math.min(outputs, 65535 * 16);
  const perSplit = columns ? 64 : lanes * 32;
  const room = Math.floor(device.partials.bytes / 4 / outputs);
  const splits =
    op === 'argmax' ? 1 : Math.max(1, Math.min(Math.ceil(count / perSplit), Math.floor(fullGrid / blocks), room, 1024));

  const run = (kernel: string, to: Range, dtype: number, strides: readonly number[], code: number) => {
    if (denseRows) {
      const list = device
        .launch('reduce_rows_dense', [blocks, splits], lanes)
        .pointer(views.x)
        .pointer(to)
        .i64(outputs)
        .i64(count)
        .i64(keptX[0]!);
      return device.done(list.i32(code).i32(codeOf[x.dtype]).i32(dtype).i32(splits));
    }
    const list = device
      .launch(kernel, [blocks, splits], lanes)
      .pointer(views.x)
      .pointer(to)
      .shape(views.kept)
      .strides(keptX)
      .strides(strides);
    device.done(
      list.shape(views.reduced).strides(views.reducedX).i32(code).i32(codeOf[x.dtype]).i32(dtype).i32(splits),
    );
  };
  const kernel = columns ? 'reduce_columns' : 'reduce_rows';
  if (splits === 1) return run(kernel, rangeOf(y), codeOf[y.dtype], keptY, opCode[op]);
  const partials = { ...device.partials, bytes: outputs * splits * 4 };
  run(kernel, partials, codeOf.f32, keptY, opCode[op]);
  // The parts of each output lie side by side.
  const list = device
    .launch('reduce_rows', [Math.min(outputs, 65535 * 16), 1], splits >= 256 ? 128 : 32)
    .pointer(partials)
    .pointer(rangeOf(y));
  list.shape(kept.shape).strides(contiguousPitch(kept.shape, splits)).strides(keptY).shape([splits]).strides([1]);
  device.done(
    list
      .i32(sums ? opCode.sum : opCode[op])
      .i32(codeOf.f32)
      .i32(codeOf[y.dtype])
      .i32(1),
  );
}

function contiguousPitch(shape: readonly number[], innermost: number): number[] {
  const strides = new Array<number>(shape.length);
  let step = innermost;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}
