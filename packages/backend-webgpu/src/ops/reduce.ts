import {
  bytesOf,
  type Call,
  LowrankError,
  type Reduce,
  type ReduceOp,
  type ScatterAdd,
  sizeOf,
  specOf,
  type View,
} from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import type { Scratch } from '../gpu/scratch.ts';
import { collapse, four } from '../gpu/shape.ts';
import { copy } from './elementwise.ts';

/** How a reduction is spread: invocations an output, and ranges of the reduced elements. Of shapes alone, and so is the order of sums. */
function plan(outputs: number, count: number, op: ReduceOp): { lanes: number; splits: number } {
  const lanes = count >= 512 ? 256 : count >= 64 ? 64 : count >= 16 ? 16 : 1;
  const groups = Math.ceil((outputs * lanes) / 256);
  const splits =
    op === 'argmax' || count < 32 * lanes
      ? 1
      : Math.min(Math.ceil(256 / groups), Math.floor(count / (16 * lanes)), 256);
  return { lanes, splits };
}

function valueType(view: View): 'f32' | 'i32' | 'u32' {
  return view.dtype === 'i32' ? 'i32' : view.dtype === 'u32' || view.dtype === 'u8' ? 'u32' : 'f32';
}

export function reduce(
  launcher: Launcher,
  scratch: Scratch,
  { inputs: { x }, outputs: { y }, attrs }: Call<Reduce>,
): void {
  const { op, axes } = attrs;
  const outputs = sizeOf(y.shape);
  if (outputs === 0) return;
  const isReduced = (axis: number) => axes.includes(axis);
  const of = <T>(list: readonly T[], reduced: boolean) => list.filter((_, i) => isReduced(i) === reduced);
  const kept = collapse(of(x.shape, false), [of(x.strides, false), of(y.strides, false)]);
  const reduced = collapse(of(x.shape, true), [of(x.strides, true)]);
  if (kept.shape.length > 4 || reduced.shape.length > 4)
    throw new LowrankError(
      `reduce ${op}`,
      'more than four separate axes',
      `shape [${x.shape}], strides [${x.strides}]`,
      'Make it contiguous first',
    );
  const count = sizeOf(reduced.shape);
  const columns = !isReduced(lastLong(x.shape));
  const { lanes, splits } = plan(outputs, count, op);
  const range = Math.ceil(count / splits);
  const value = valueType(x);
  const partial = splits > 1 ? scratch.take(splits * outputs * 4) : undefined;
  const target: View = partial ? { ...specOf([splits * outputs], value), buffer: partial, byteOffset: 0 } : y;
  const bound = launcher.bind('reduce', [
    { name: 'y', view: target, write: true, atomic: bytesOf[target.dtype] < 4 },
    { name: 'x', view: x },
  ]);
  const yStrides = partial ? rowMajor(kept.shape) : kept.strides[1]!;
  launcher.params
    .start()
    .u32(
      ...four(kept.shape, 1),
      ...four(kept.strides[0]!, 0),
      ...four(yStrides, 0),
      ...four(reduced.shape, 1),
      ...four(reduced.strides[0]!, 0),
    )
    .u32(bound.offsets[1]!, bound.offsets[0]!, outputs, count, range, outputs);
  const groups = Math.ceil((outputs * lanes) / 256);
  const folded = Math.ceil(groups / 65535);
  launcher.launch(
    bound,
    'reduce/reduce.wgsl',
    { OP: op, VALUE: value, LANES: lanes, COLUMNS: columns },
    folded > 1 ? 65535 : groups,
    folded,
    splits,
  );
  if (partial) {
    const from: View = { ...specOf([splits, outputs], value), buffer: partial, byteOffset: 0 };
    // y as [1, outputs]; where its axes do not join, the second stage walks them.
    combine(launcher, op === 'sumSquares' ? 'sum' : op, value, from, {
      y,
      shape: kept.shape,
      strides: kept.strides[1]!,
    });
  }
}

function lastLong(shape: readonly number[]): number {
  for (let i = shape.length - 1; i >= 0; i--) if (shape[i]! > 1) return i;
  return -1;
}

function rowMajor(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides.unshift(step);
    step *= shape[i]!;
  }
  return strides;
}

/** y = op over the first axis of partial results [splits, outputs], in order. */
function combine(
  launcher: Launcher,
  op: ReduceOp,
  value: string,
  from: View,
  to: { y: View; shape: readonly number[]; strides: readonly number[] },
): void {
  const [splits, outputs] = from.shape as [number, number];
  const bound = launcher.bind('reduce', [
    { name: 'y', view: to.y, write: true, atomic: bytesOf[to.y.dtype] < 4 },
    { name: 'x', view: from },
  ]);
  launcher.params
    .start()
    .u32(
      ...four(to.shape, 1),
      ...four(rowMajor(to.shape), 0),
      ...four(to.strides, 0),
      ...four([splits], 1),
      ...four([outputs], 0),
    )
    .u32(bound.offsets[1]!, bound.offsets[0]!, outputs, splits, splits, 0);
  launcher.launchFlat(
    bound,
    'reduce/reduce.wgsl',
    { OP: op, VALUE: value, LANES: 1, COLUMNS: true },
    Math.ceil(outputs / 256),
  );
}

/** dweight and the like: y (f32, any strides over one axis) = Σ of partial sums [splits, n] in f32. */
export function sumPartials(launcher: Launcher, from: View, y: View): void {
  combine(launcher, 'sum', 'f32', from, { y, shape: [y.shape[0]!], strides: [y.strides[0]!] });
}

export function scatterAdd(launcher: Launcher, { inputs: { into, ids, x }, outputs: { y } }: Call<ScatterAdd>): void {
  if (sizeOf(y.shape) === 0) return;
  const same =
    into.buffer === y.buffer && into.byteOffset === y.byteOffset && into.strides.every((s, i) => s === y.strides[i]);
  if (!same) copy(launcher, { inputs: { x: into }, outputs: { y }, attrs: {} });
  const count = sizeOf(ids.shape);
  const width = sizeOf(y.shape.slice(1));
  if (count === 0 || width === 0) return;
  const idAxes = collapse(ids.shape, [ids.strides, x.strides.slice(0, ids.shape.length)]);
  const rowAxes = collapse(y.shape.slice(1), [x.strides.slice(ids.shape.length), y.strides.slice(1)]);
  if (idAxes.shape.length > 4 || rowAxes.shape.length > 4)
    throw new LowrankError(
      'scatterAdd',
      'more than four separate axes',
      `x strides [${x.strides}]`,
      'Make it contiguous first',
    );
  const bound = launcher.bind('scatterAdd', [
    { name: 'y', view: y, write: true, atomic: bytesOf[y.dtype] < 4 },
    { name: 'ids', view: ids, type: 'u32' },
    { name: 'x', view: x },
  ]);
  launcher.params
    .start()
    .u32(...four(idAxes.shape, 1), ...four(idAxes.strides[0]!, 0), ...four(idAxes.strides[1]!, 0))
    .u32(...four(rowAxes.shape, 1), ...four(rowAxes.strides[0]!, 0), ...four(rowAxes.strides[1]!, 0))
    .u32(bound.offsets[1]!, bound.offsets[2]!, bound.offsets[0]!, count, width, y.shape[0]!, y.strides[0]!);
  launcher.launchFlat(bound, 'scatter-add/scatter-add.wgsl', {}, count);
}
