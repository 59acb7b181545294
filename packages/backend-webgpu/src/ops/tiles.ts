import { bytesOf, type View } from '@lowrank/kernels';
import type { Gpu } from '../gpu/gpu.ts';
import type { Defines } from '../gpu/source.ts';
import { type Layout, type MatrixTile, type MatrixVariant, matrixMemories, type TileShape } from '../gpu/variants.ts';

/** A matrix as tiles see it: rows along m or n, the other axis inner, or columns of y. Strides in elements; up to two batch axes. */
export interface Matrix {
  readonly view: View;
  readonly row: number;
  readonly column: number;
  readonly batch: readonly [number, number];
}

/** An axis of length 1 may have any stride: take the one that suits vectors. */
export function matrixOf(view: View): Matrix {
  return {
    view,
    row: view.shape[0] === 1 ? 0 : view.strides[0]!,
    column: view.shape[1] === 1 ? 1 : view.strides[1]!,
    batch: [0, 0],
  };
}

export function transposed(view: View): View {
  return { ...view, shape: [view.shape[1]!, view.shape[0]!], strides: [view.strides[1]!, view.strides[0]!] };
}

/** A kernel of products: what it takes of y and of the inner axis, its invocations, and what its file is assembled with. */
export interface Tile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly kind: 'memory' | 'direct' | 'matrix';
  readonly defines: Defines;
}

/** Tiles for large products, the usual one first; `tune` finds out which suits a device. */
export const largeTiles: readonly TileShape[] = [
  { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4 },
  { BM: 128, BN: 128, BK: 8, TM: 8, TN: 8 },
  { BM: 128, BN: 64, BK: 16, TM: 8, TN: 8 },
  { BM: 64, BN: 64, BK: 4, TM: 4, TN: 4, stages: 0 },
  { BM: 64, BN: 64, BK: 4, TM: 8, TN: 4, stages: 0 },
  { BM: 32, BN: 32, BK: 4, TM: 4, TN: 4, stages: 0 },
  { BM: 128, BN: 64, BK: 4, TM: 8, TN: 4, stages: 0, square: true },
  { BM: 64, BN: 128, BK: 4, TM: 4, TN: 8, stages: 0, square: true },
  { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4, square: true },
  { BM: 128, BN: 128, BK: 8, TM: 8, TN: 8, square: true },
  { BM: 128, BN: 128, BK: 8, TM: 8, TN: 8, square: true, stages: 2 },
  { BM: 128, BN: 128, BK: 8, TM: 8, TN: 8, square: true, unroll: true },
  { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4, square: true, stages: 2, unroll: true },
];
const middle: TileShape = { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4 };
const low: TileShape = { BM: 32, BN: 64, BK: 16, TM: 4, TN: 4 };
const flat: TileShape = { BM: 16, BN: 64, BK: 16, TM: 4, TN: 4 };
const tall: TileShape = { BM: 64, BN: 16, BK: 16, TM: 4, TN: 4 };

/**
 * For adapters in software, whose compilers take longer than the work and whose barriers are dear: a short kernel without workgroup memory for
 * all shapes, and another for operands that it does not take.
 */
export const softwareTile: TileShape = { BM: 32, BN: 32, BK: 4, TM: 4, TN: 4, stages: 0 };
export const softwareMemoryTile: TileShape = { BM: 32, BN: 32, BK: 8, TM: 4, TN: 4 };

/** Every portable tile, for tests. */
export const allTiles: readonly TileShape[] = [...largeTiles, low, flat, tall, softwareTile, softwareMemoryTile];

export function threadsOf({ BM, BN, TM, TN }: TileShape): number {
  return (BM / TM) * (BN / TN);
}

const made = new WeakMap<object, Tile>();

/** The kernel of `common/wgsl/tiles.wgsl`, or of `matmul/direct.wgsl`. */
export function portableTile(shape: TileShape): Tile {
  let tile = made.get(shape);
  if (tile) return tile;
  const { BM, BN, BK, TM, TN, stages = 1, unroll = false, square = false } = shape;
  const threads = threadsOf(shape);
  const loads = Math.ceil((((BM + BN) / 4) * (BK / 4)) / threads);
  const defines: Record<string, number | boolean> = {
    ...{ THREADS: threads, BM, BN, BK, TM, TN, TMV: TM / 4, TNV: TN / 4, BK_BLOCKS: BK / 4, LOADS: loads },
    ...{ STAGES: stages, UNROLL: unroll, SQUARE: square },
  };
  for (let i = 0; i < TM; i++) defines[`VECTOR_OF_${i}`] = i >> 2;
  made.set(shape, (tile = { BM, BN, BK, kind: stages === 0 ? 'direct' : 'memory', defines }));
  return tile;
}

/**
 * Tiles on subgroup matrices: `deep` is the fastest on an H200 where the right operand lies along its inner axis, `broad` where it does not;
 * `large` is for devices with less workgroup memory, `small` for products that the others would leave a device idle with.
 */
export const matrixTiles = {
  deep: { BM: 128, BN: 128, BK: 64, M: 2, N: 4, stages: 1 },
  broad: { BM: 128, BN: 256, BK: 32, M: 2, N: 4, stages: 1 },
  large: { BM: 128, BN: 128, BK: 32, M: 2, N: 4, stages: 1 },
  small: { BM: 64, BN: 64, BK: 32, M: 2, N: 2, stages: 1 },
} as const satisfies Record<string, MatrixTile>;

/** Tiles to choose among by measurement. */
export const matrixCandidates: readonly MatrixTile[] = [
  ...Object.values(matrixTiles),
  { BM: 128, BN: 128, BK: 32, M: 2, N: 4, stages: 2 },
  { BM: 128, BN: 128, BK: 32, M: 2, N: 2, stages: 1 },
  { BM: 256, BN: 128, BK: 32, M: 4, N: 4, stages: 1 },
  { BM: 256, BN: 128, BK: 32, M: 4, N: 2, stages: 1 },
  { BM: 128, BN: 64, BK: 64, M: 2, N: 2, stages: 1 },
];

/** Bytes of workgroup memory, whichever way the operands lie, when each subgroup sends out `round` matrices at a time. */
export function matrixBytes({ BM, BN, BK, M, N, stages }: MatrixTile, round = 1): number {
  const rows = (count: number) => Math.max(count * (BK / 8 + 1), BK * (count / 8 + 1)) * 16;
  return stages * (rows(BM) + rows(BN)) + M * N * round * 1024;
}

/** The kernel of `common/wgsl/matrix-tiles.wgsl`. */
export function matrixTile(gpu: Gpu, { memory, lanes }: MatrixVariant, shape: MatrixTile): Tile {
  let tile = made.get(shape);
  if (tile?.defines.MEMORY === memory) return tile;
  const { BM, BN, BK, M, N, stages } = shape;
  const threads = M * N * lanes;
  const JN = BN / N / 16;
  const round = JN % 2 === 0 && matrixBytes(shape, 2) <= gpu.workgroupBytes ? 2 : 1;
  const defines: Record<string, string | number> = {
    ...{ THREADS: threads, BM, BN, BK, SUB_M: M, SUB_N: N, STAGES: stages },
    ...{
      MEMORY: memory,
      TILE_UNIT: matrixMemories[memory],
      IM: BM / M / 16,
      JN,
      BK_MATRICES: BK / 16,
      ROUND: round,
      ROUNDS: JN / round,
    },
    ...{ LEFT_LOADS: (BM * BK) / 8 / threads, RIGHT_LOADS: (BN * BK) / 8 / threads },
  };
  for (let j = 0; j < JN; j++) defines[`COLUMN_${Math.floor(j / round)}_${j % round}`] = j;
  made.set(shape, (tile = { BM, BN, BK, kind: 'matrix', defines }));
  return tile;
}

/** Whether a device can run a tile on subgroup matrices. */
export function matrixFits(gpu: Gpu, { lanes }: Pick<MatrixVariant, 'lanes'>, tile: MatrixTile): boolean {
  return (
    matrixBytes(tile) <= gpu.workgroupBytes &&
    tile.M * tile.N * lanes <= gpu.device.limits.maxComputeInvocationsPerWorkgroup
  );
}

/** Workgroups that keep a large device busy. */
const manyGroups = 96;
const groupsOf = ({ BM, BN }: Pick<MatrixTile, 'BM' | 'BN'>, m: number, n: number): number =>
  Math.ceil(m / BM) * Math.ceil(n / BN);

/** The large tile of a layout on subgroup matrices: what was measured, or the usual one that the device has the memory for. */
export function usualMatrixTile(gpu: Gpu, matrix: MatrixVariant, layout: Layout): MatrixTile {
  const { deep, broad, large } = matrixTiles;
  return (
    matrix.tiles?.[layout] ??
    [layout[1] === 'T' ? deep : broad, deep].find((tile) => matrixFits(gpu, matrix, tile)) ??
    large
  );
}

/**
 * The tile on subgroup matrices for a product, by its layout and shape alone, and the ranges of its inner axis where `cuts`: a long one is cut
 * before smaller tiles are taken.
 */
export function chooseMatrixTile(
  gpu: Gpu,
  matrix: MatrixVariant,
  layout: Layout,
  [m, n, k, batch]: readonly [m: number, n: number, k: number, batch: number],
  cuts: boolean,
): { tile: MatrixTile; splits: number } {
  const usual = usualMatrixTile(gpu, matrix, layout);
  const square = usualMatrixTile(gpu, matrix, 'NT');
  // What lies beyond the edges is multiplied, too.
  const tile =
    groupsOf(usual, m, n) * usual.BM * usual.BN > groupsOf(square, m, n) * square.BM * square.BN ? square : usual;
  const groups = groupsOf(tile, m, n) * batch;
  if (groups >= manyGroups) return { tile, splits: 1 };
  const most = Math.floor(mostPartial / Math.max(1, m * n * batch));
  const splits = Math.min(Math.ceil((2 * manyGroups) / groups), Math.floor(k / 1024), most);
  if (cuts && splits * groups >= manyGroups) return { tile, splits };
  return { tile: matrixTiles.small, splits: cuts ? chooseSplits(m, n, k, batch) : 1 };
}

/** Bytes of workgroup memory that a tile takes. */
export function tileBytes({ BM, BN, BK, stages = 1 }: TileShape): number {
  return (BM + BN) * BK * 4 * stages;
}

/** The portable tile for a product of m × n, by shape alone; `extraBytes` of workgroup memory go to something else. */
export function chooseTile(gpu: Gpu, large: TileShape, m: number, n: number, batch: number, extraBytes = 0): TileShape {
  if (m <= 16) return flat;
  if (n <= 16) return tall;
  if (m <= 32) return low;
  const fits = tileBytes(large) + extraBytes <= gpu.workgroupBytes;
  return fits && Math.ceil(m / 128) * Math.ceil(n / 128) * batch >= 64 ? large : middle;
}

/** Partial sums of a product, 16 MiB. */
const mostPartial = 2 ** 22;

/** Ranges that the inner axis is cut into where the outputs alone would leave a device idle. By shape alone, so that sums keep their order. */
export function chooseSplits(m: number, n: number, k: number, batch: number): number {
  const groups = Math.ceil(m / 64) * Math.ceil(n / 64) * batch;
  if (groups >= manyGroups || k < 512) return 1;
  const most = Math.floor(mostPartial / Math.max(1, m * n * batch));
  return Math.max(1, Math.min(Math.ceil((2 * manyGroups) / groups), Math.floor(k / 128), most, 64));
}

/** How a block loader may take a matrix: vectors along its inner axis, along its rows, or one by one; and the vector of its binding. */
export interface Access {
  readonly mode: 'inner' | 'outer' | 'any';
  readonly vector: 1 | 2 | 4;
  /** Neighbouring blocks go along the inner axis. */
  readonly innerFirst: boolean;
}

/** Whether the start of a matrix and all steps but the contiguous one are multiples of `count` elements. */
function steps({ view, batch }: Matrix, step: number, count: number): boolean {
  return (
    step % count === 0 && batch.every((b) => b % count === 0) && view.byteOffset % (count * bytesOf[view.dtype]) === 0
  );
}

export function accessOf(matrix: Matrix): Access {
  const { view, row, column } = matrix;
  const vector = bytesOf[view.dtype] === 4 ? 4 : 2;
  if (column === 1) return { mode: 'inner', vector: steps(matrix, row, 4) ? vector : 1, innerFirst: true };
  if (row === 1) return { mode: 'outer', vector: steps(matrix, column, 4) ? vector : 1, innerFirst: false };
  return { mode: 'any', vector: 1, innerFirst: column < row };
}

/**
 * How subgroup matrices may take a matrix of `rows` by `inner`: vectors of eight f16 (or eight f32, rounded, where `rounds`). Undefined where
 * they cannot.
 */
export function eightAccess(matrix: Matrix, rows: number, inner: number, rounds = false): Access | undefined {
  const { view, row, column } = matrix;
  if (view.dtype !== 'f16' && !(rounds && view.dtype === 'f32')) return undefined;
  if (column === 1 && inner % 8 === 0 && steps(matrix, row, 8)) return { mode: 'inner', vector: 4, innerFirst: true };
  if (row === 1 && rows % 8 === 0 && steps(matrix, column, 8)) return { mode: 'outer', vector: 4, innerFirst: false };
  return undefined;
}

/** How y is stored by rows of four. */
export function storeOf(
  { view, row, column, batch }: Matrix,
  n: number,
): { mode: 'vector' | 'pairs' | 'each'; vector: 1 | 2 | 4; atomic: boolean } {
  const size = bytesOf[view.dtype];
  const at = view.byteOffset / size;
  const multiple = (step: number) => at % step === 0 && row % step === 0 && batch.every((b) => b % step === 0);
  if (column === 1 && n % 4 === 0 && multiple(4)) return { mode: 'vector', vector: size === 4 ? 4 : 2, atomic: false };
  if (size === 2 && column === 1 && multiple(2)) return { mode: 'pairs', vector: 1, atomic: false };
  return { mode: 'each', vector: 1, atomic: size < 4 };
}
