import { bytesOf, type Call, type Gather, type ScatterAdd, sizeOf, type View } from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';
import { join, sameView, split, typeCode } from '../views.ts';
import { convert } from './elementwise.ts';
import { temporaryView } from './temporary.ts';

/** Visits the leading axes of rows that do not join to one: offsets of each operand, in elements. */
function eachLead(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (offsets: number[]) => void,
): void {
  const total = sizeOf(shape);
  for (let i = 0; i < total; i++) {
    const offsets = strides.map(() => 0);
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const k = rest % shape[axis]!;
      rest = Math.floor(rest / shape[axis]!);
      strides.forEach((s, j) => {
        offsets[j]! += k * s[axis]!;
      });
    }
    visit(offsets);
  }
}

function shifted(view: View, elements: number): View {
  return { ...view, byteOffset: view.byteOffset + elements * bytesOf[view.dtype] };
}

export function gather(engine: Engine, { inputs: { table, ids }, outputs: { y } }: Call<Gather>): void {
  if (sizeOf(y.shape) === 0) return;
  const rank = ids.shape.length;
  const lead = join(ids.shape, [ids.strides, y.strides.slice(0, rank)]);
  const rest = join(table.shape.slice(1), [table.strides.slice(1), y.strides.slice(rank)]);
  const row = split(rest.shape, rest.strides);
  const count = sizeOf(ids.shape);
  eachLead(row.shape, row.strides, ([t, o]) => {
    const desc = engine.describe(0, lead.shape, lead.strides);
    const from = engine.pointer(shifted(table, t!));
    const to = engine.pointer(shifted(y, o!));
    const args = [
      from,
      typeCode[table.dtype],
      table.strides[0]!,
      row.steps[0]!,
      table.shape[0]!,
      row.n,
      engine.pointer(ids),
      to,
      typeCode[y.dtype],
      row.steps[1]!,
      desc,
    ];
    engine.run('gather', args, count, 30 + row.n * 0.5);
  });
}

/** Columns of one unit. */
const COLUMNS = 256;

export function scatterAdd(engine: Engine, { inputs: { into, ids, x }, outputs: { y } }: Call<ScatterAdd>): void {
  if (sizeOf(y.shape) === 0) return;
  const width = sizeOf(y.shape.slice(1));
  const rank = ids.shape.length;
  const tail = join(y.shape.slice(1), [y.strides.slice(1), x.strides.slice(rank)]);
  const row = split(tail.shape, tail.strides);
  // Sums are made on f32 rows without gaps: y itself, or a copy that is stored at the end.
  const direct = y.dtype === 'f32' && row.rows === 1 && row.steps[0] === 1;
  const sums = direct ? y : temporaryView(engine, y.shape, 'f32');
  if (!sameView(into, sums)) convert(engine, into, sums);
  const flat = direct ? x : temporaryView(engine, x.shape, 'f32');
  if (!direct) convert(engine, x, flat);
  const from = direct ? x : flat;
  const lead = join(ids.shape, [ids.strides, from.strides.slice(0, rank)]);
  const desc = engine.describe(0, lead.shape, lead.strides);
  const step = direct ? row.steps[1]! : 1;
  const count = sizeOf(ids.shape);
  const rowStride = y.shape[0]! > 1 ? sums.strides[0]! : width;
  const args = [
    engine.pointer(sums),
    rowStride,
    y.shape[0]!,
    width,
    engine.pointer(ids),
    count,
    engine.pointer(from),
    typeCode[from.dtype],
    step,
    desc,
    COLUMNS,
  ];
  engine.run('scatterAdd', args, Math.ceil(width / COLUMNS), count * (20 + Math.min(width, COLUMNS) * 0.4));
  if (!direct) convert(engine, sums, y);
}
