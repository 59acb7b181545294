import { bytesOf, type View } from '@lowrank/kernels';
import type { Arg, Launcher } from '../gpu/launcher.ts';
import type { Scratch } from '../gpu/scratch.ts';
import { accessOf, type Matrix, storeOf } from './tiles.ts';

/** Most pairs of a dispatch: their gradients and the partial sums fill the seven bindings that every device has beside one to spare. */
export const mostPairs = 3;
/** Ranks from which usual tiles do better. */
const mostRank = 32;
/** Workgroups of a thin product that keep a large device busy: four of its processors' own number. */
const manyGroups = 512;
/** Rows of a range of the gradients: eight rounds of a workgroup. */
const rangeRows = 512;

/** y [m, n] = scale · x [m, k] · pᵀ, p [n, k]. */
export interface ThinProduct {
  readonly x: Matrix;
  readonly p: Matrix;
  readonly y: Matrix;
  readonly n: number;
  readonly k: number;
  readonly scale: number;
}

/** Whether a group's pairs are thin, and lie as the kernels take them. */
export function isThin(group: readonly ThinProduct[]): boolean {
  const [first] = group;
  if (!first || group.length > mostPairs) return false;
  const { mode } = accessOf(first.p);
  return group.every(
    ({ x, p, y, n, k }) =>
      n > 0 &&
      n <= mostRank &&
      k > 0 &&
      x.column === 1 &&
      y.column === 1 &&
      mode !== 'any' &&
      accessOf(p).mode === mode,
  );
}

/** Vectors only where every operand allows them. */
const least = (matrices: readonly Matrix[]) =>
  Math.min(...matrices.map((m) => accessOf(m).vector)) as ReturnType<typeof accessOf>['vector'];
const elements = ({ view }: Matrix, bindingOffset: number, first: View) =>
  bindingOffset + (view.byteOffset - first.byteOffset) / bytesOf[view.dtype];

/** The products of up to `mostPairs` pairs of a group in one dispatch. x and y of all are columns of one tensor each. */
export function thinProducts(launcher: Launcher, op: string, m: number, group: readonly ThinProduct[]): void {
  const [first] = group as readonly [ThinProduct, ...ThinProduct[]];
  const stores = group.map(({ y, n }) => storeOf(y, n));
  const store = stores.find((s) => s.mode === 'each') ?? stores.find((s) => s.mode === 'pairs') ?? stores[0]!;
  const [x, y] = [whole(group.map((g) => g.x)), whole(group.map((g) => g.y))];
  const vectors = { x: least(group.map((g) => g.x)), p: least(group.map((g) => g.p)) };
  const args: Arg[] = [
    { name: 'y', view: y, write: true, vector: store.vector, atomic: store.atomic },
    { name: 'x', view: x, vector: vectors.x },
    ...group.map(({ p }, i) => ({ name: `p${i}`, view: p.view, vector: vectors.p })),
  ];
  const bound = launcher.bind(op, args);
  const [yAt, xAt] = bound.offsets as [number, number];
  const params = launcher.params.start();
  for (let i = 0; i < mostPairs; i++) {
    const g = group[i];
    if (!g) params.u32(...new Array<number>(12).fill(0));
    else
      params
        .u32(
          elements(g.x, xAt, x),
          g.k,
          bound.offsets[2 + i]!,
          g.p.row,
          g.p.column,
          g.n,
          elements(g.y, yAt, y),
          g.y.row,
        )
        .f32(g.scale)
        .u32(0, 0, 0);
  }
  params.u32(m, first.x.row);
  const columns = Math.ceil(Math.max(...group.map((g) => g.n)) / 16);
  // Few rows a workgroup where there are few: more of them, and shorter walks.
  const groups = (blocks: number) => Math.ceil(m / (4 * blocks));
  const BLOCKS = [4, 2].find((blocks) => groups(blocks) * columns * group.length >= manyGroups) ?? 1;
  const defines: Record<string, string | number> = {
    PAIRS: group.length,
    BLOCKS,
    x_MODE: 'inner',
    y_STORE: store.mode,
  };
  group.forEach((_, i) => {
    defines[`p${i}_MODE`] = accessOf(first.p).mode;
  });
  launcher.launch(bound, 'lora-linear/thin.wgsl', defines, groups(BLOCKS), columns, group.length);
}

/** A view from the first byte of several on one buffer to the last. */
function whole(matrices: readonly Matrix[]): View {
  const views = matrices.map(({ view }) => view);
  const from = Math.min(...views.map((v) => v.byteOffset));
  const last = views.reduce((best, v) => (v.byteOffset >= best.byteOffset ? v : best));
  const more = (last.byteOffset - from) / bytesOf[last.dtype];
  const [rows, columns] = last.shape as [number, number];
  return { ...last, byteOffset: from, shape: [rows, columns + more], strides: last.strides };
}

/** da [r, k] = gᵀ · x and db [n, r] = scale · dyᵀ · h of one pair. All but da and db are [m, …] with columns side by side. */
export interface PairGradient {
  readonly g: Matrix;
  readonly dy: Matrix;
  readonly h: Matrix;
  readonly da: View;
  readonly db: View;
  readonly scale: number;
}

/** Gradients of up to `mostPairs` pairs of a group in two dispatches. */
export function thinGradients(
  launcher: Launcher,
  scratch: Scratch,
  op: string,
  x: Matrix,
  m: number,
  group: readonly PairGradient[],
): void {
  const dy = group.map((p) => p.dy);
  const h = group.map((p) => p.h);
  const g = group.map((p) => p.g);
  const shapes = [...group.map((p) => p.da.shape), ...group.map((p) => p.db.shape)] as [number, number][];
  const sizes = shapes.map(([rows, columns]) => rows * columns);
  const size = sizes.reduce((sum, s) => sum + s, 0);
  const splits = Math.max(1, Math.min(64, Math.ceil(m / rangeRows)));
  const range = Math.ceil(m / splits / 64) * 64;
  const partial: View = {
    ...{ dtype: 'f32', shape: [splits * size], strides: [1] },
    buffer: scratch.take(splits * size * 4),
    byteOffset: 0,
  };
  const views = { g: whole(g), x: x.view, d: whole(dy), h: whole(h) };
  const outer = (matrices: readonly Matrix[]) => least(matrices.map(turned));
  const bound = launcher.bind(op, [
    { name: 'y', view: partial, write: true },
    { name: 'g', view: views.g, vector: outer(g) },
    { name: 'x', view: views.x, vector: outer([x]) },
    { name: 'd', view: views.d, vector: outer(dy) },
    { name: 'h', view: views.h, vector: outer(h) },
  ]);
  const [, gAt, xAt, dAt, hAt] = bound.offsets as [number, number, number, number, number];
  const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, s) => sum + s, 0));
  const params = launcher.params.start();
  for (let i = 0; i < 2 * mostPairs; i++) {
    const pair = group[i % group.length]!;
    const [rows, columns] = shapes[i] ?? [0, 0];
    if (i < group.length)
      params.u32(elements(pair.g, gAt, views.g), pair.g.row, rows, xAt, x.row, columns, starts[i]!, 0);
    else
      params.u32(
        ...[elements(pair.h, hAt, views.h), pair.h.row, columns],
        ...[elements(pair.dy, dAt, views.d), pair.dy.row, rows, starts[i] ?? 0, 0],
      );
  }
  params.u32(m, splits, range, size);
  const tiles = Math.max(
    ...shapes.map(([rows, columns], i) => {
      const [high, wide] = i < group.length ? [rows, columns] : [columns, rows];
      return Math.ceil(high / 16) * Math.ceil(wide / 32);
    }),
  );
  const modes = { g_MODE: 'outer', x_MODE: 'outer', d_MODE: 'outer', h_MODE: 'outer' };
  const file = 'lora-linear-backward/thin.wgsl';
  launcher.launch(bound, file, { PAIRS: group.length, ...modes }, tiles, 1, shapes.length * splits);
  addUp(launcher, op, partial, splits, size, starts, group);
}

const turned = (matrix: Matrix): Matrix => ({ ...matrix, row: matrix.column, column: matrix.row });

function addUp(
  launcher: Launcher,
  op: string,
  partial: View,
  splits: number,
  size: number,
  starts: readonly number[],
  group: readonly PairGradient[],
): void {
  const results = [
    ...group.map(({ da }) => ({ y: da, scale: 1 })),
    ...group.map(({ db, scale }) => ({ y: db, scale })),
  ];
  const bound = launcher.bind(op, [
    ...results.map(({ y }, i) => ({ name: `y${i}`, view: y, write: true })),
    { name: 's', view: partial },
  ]);
  const params = launcher.params.start();
  const counts = results.map(({ y }) => y.shape[0]! * y.shape[1]!);
  for (let i = 0; i < 2 * mostPairs; i++)
    params.u32(starts[i] ?? 0, bound.offsets[i] ?? 0, counts[i] ?? 0).f32(results[i]?.scale ?? 0);
  params.u32(splits, size);
  const blocks = Math.ceil(Math.max(...counts) / 256);
  launcher.launch(
    bound,
    'lora-linear-backward/sum-pairs.wgsl',
    { GRADIENTS: results.length },
    blocks,
    1,
    results.length,
  );
}
