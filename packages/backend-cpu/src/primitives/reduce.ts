import { type Call, isFloat, type Reduce, sizeOf, type View } from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';
import { join, split, typeCode } from '../views.ts';

const ids = { sum: 0, sumSquares: 1, max: 2, min: 3 } as const;

/** Elements of a kept row that one unit of an outer reduction takes. */
const COLUMNS = 512;

type Axes = { shape: number[]; strides: number[][] };

/** Some axes of several operands, ordered as the first operand lies in memory, and joined. */
function pick(axes: readonly number[], shape: readonly number[], operands: readonly (readonly number[])[]): Axes {
  const order = [...axes].filter((a) => shape[a] !== 1).sort((a, b) => operands[0]![b]! - operands[0]![a]! || a - b);
  return join(
    order.map((a) => shape[a]!),
    operands.map((s) => order.map((a) => s[a]!)),
  );
}

export function reduce(engine: Engine, { inputs: { x }, outputs: { y }, attrs: { op, axes } }: Call<Reduce>): void {
  if (sizeOf(y.shape) === 0) return;
  const keptAxes = [...x.shape.keys()].filter((a) => !axes.includes(a));
  const kept = pick(keptAxes, x.shape, [x.strides, y.strides]);
  const reduced = pick(axes, x.shape, [x.strides]);
  const count = reduced.shape.reduce((a, b) => a * b, 1);
  if (op === 'argmax') {
    const desc = engine.describe(0, kept.shape, kept.strides);
    const n = x.shape[axes[0]!]!;
    engine.run(
      'argmax',
      [engine.pointer(x), typeCode[x.dtype], x.strides[axes[0]!]!, n, engine.pointer(y), desc],
      sizeOf(y.shape),
      n,
    );
    return;
  }
  const id = ids[op];
  const innerKept = kept.strides[0]!.at(-1) ?? Number.POSITIVE_INFINITY;
  const innerReduced = reduced.strides[0]!.at(-1) ?? Number.POSITIVE_INFINITY;
  if (isFloat(x.dtype) && kept.shape.length > 0 && count > 0 && innerKept < innerReduced && innerKept > 0) {
    reduceOuter(engine, id, x, y, kept, reduced, count);
    return;
  }
  // Zero axes of the reduced part are one row of length 1; an empty part is a row of length 0.
  const row = split(reduced.shape, reduced.strides);
  const desc = engine.describe(0, kept.shape, kept.strides);
  const inner = engine.describe(1, row.shape, row.strides);
  const rest = count === 0 ? 0 : row.rows;
  const rows = sizeOf(y.shape);
  if (isFloat(x.dtype)) {
    const args = [
      id,
      engine.pointer(x),
      typeCode[x.dtype],
      row.steps[0]!,
      row.n,
      rest,
      engine.pointer(y),
      typeCode[y.dtype],
      desc,
      inner,
    ];
    engine.run('reduceInner', args, rows, 20 + count * 0.3);
  } else {
    const args = [id, engine.pointer(x), typeCode[x.dtype], row.steps[0]!, row.n, rest, engine.pointer(y), desc, inner];
    engine.run('reduceInts', args, rows, 20 + count * 2);
  }
}

/** Neighbours in memory belong to different results: rows are combined elementwise. */
function reduceOuter(engine: Engine, id: number, x: View, y: View, kept: Axes, reduced: Axes, count: number): void {
  const row = split(kept.shape, kept.strides);
  const desc = engine.describe(0, row.shape, row.strides);
  const inner = engine.describe(1, reduced.shape, reduced.strides);
  const chunk = Math.min(COLUMNS, row.n);
  const args = [
    id,
    engine.pointer(x),
    typeCode[x.dtype],
    row.steps[0]!,
    row.n,
    chunk,
    count,
    engine.pointer(y),
    typeCode[y.dtype],
    row.steps[1]!,
    desc,
    inner,
  ];
  engine.run('reduceOuter', args, row.rows * Math.ceil(row.n / chunk), 50 + count * (10 + chunk * 0.3));
}
