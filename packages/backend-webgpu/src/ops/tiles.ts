import { bytesOf, type View } from '@lowrank/kernels';
import type { Gpu } from '../gpu/gpu.ts';
import type { Arg, Bound, Launcher } from '../gpu/launcher.ts';
import type { Defines } from '../gpu/source.ts';

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

/** Shapes of tiles of `common/wgsl/tiles.wgsl`. */
export interface Tile {
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly TM: number;
  readonly TN: number;
}

const large: Tile = { BM: 128, BN: 128, BK: 16, TM: 8, TN: 8 };
const middle: Tile = { BM: 64, BN: 64, BK: 16, TM: 8, TN: 4 };
const low: Tile = { BM: 32, BN: 64, BK: 16, TM: 4, TN: 4 };
const flat: Tile = { BM: 16, BN: 64, BK: 16, TM: 4, TN: 4 };
const tall: Tile = { BM: 64, BN: 16, BK: 16, TM: 4, TN: 4 };

export function threadsOf({ BM, BN, TM, TN }: Tile): number {
  return (BM / TM) * (BN / TN);
}

/** Bytes of workgroup memory. */
function bytesOfTile({ BM, BN, BK }: Tile): number {
  return (BM + BN) * BK * 4;
}

/** The tile for a product of m × n by shape alone; `extraBytes` of workgroup memory go to something else. */
export function chooseTile(gpu: Gpu, m: number, n: number, batch: number, extraBytes = 0): Tile {
  if (m <= 16) return flat;
  if (n <= 16) return tall;
  if (m <= 32) return low;
  const fits = bytesOfTile(large) + extraBytes <= gpu.workgroupBytes;
  return fits && Math.ceil(m / 128) * Math.ceil(n / 128) * batch >= 64 ? large : middle;
}

/** Ranges that the inner axis is cut into where the outputs alone would leave a device idle. By shape alone, so that sums keep their order. */
export function chooseSplits(tile: Tile, m: number, n: number, k: number, batch: number): number {
  const groups = Math.ceil(m / tile.BM) * Math.ceil(n / tile.BN) * batch;
  if (groups >= 96 || k < 512) return 1;
  const most = Math.floor(2 ** 22 / Math.max(1, m * n * batch)); // 16 MiB of partial sums
  return Math.max(1, Math.min(Math.ceil(192 / groups), Math.floor(k / 128), most, 64));
}

/** How a block loader may take a matrix: vectors along its inner axis, along its rows, or one by one; and the vector of its binding. */
export interface Access {
  readonly mode: 'inner' | 'outer' | 'any';
  readonly vector: 1 | 2 | 4;
  /** Neighbouring blocks go along the inner axis. */
  readonly innerFirst: boolean;
}

/** `rows` and `inner` are lengths: a matrix that has one row or one column has no stride there. */
export function accessOf({ view, row, column, batch }: Matrix): Access {
  const size = bytesOf[view.dtype];
  const aligned = (step: number) => step % 4 === 0 && batch.every((b) => b % 4 === 0) && view.byteOffset % (4 * size) === 0;
  const vector = size === 4 ? 4 : 2;
  if (column === 1) return aligned(row) ? { mode: 'inner', vector, innerFirst: true } : { mode: 'inner', vector: 1, innerFirst: true };
  if (row === 1) return aligned(column) ? { mode: 'outer', vector, innerFirst: false } : { mode: 'outer', vector: 1, innerFirst: false };
  return { mode: 'any', vector: 1, innerFirst: column < row };
}

/** How y is stored by rows of four. */
export function storeOf({ view, row, column, batch }: Matrix, n: number): { mode: 'vector' | 'pairs' | 'each'; vector: 1 | 2 | 4; atomic: boolean } {
  const size = bytesOf[view.dtype];
  const at = view.byteOffset / size;
  const multiple = (step: number) => at % step === 0 && row % step === 0 && batch.every((b) => b % step === 0);
  if (column === 1 && n % 4 === 0 && multiple(4)) return { mode: 'vector', vector: size === 4 ? 4 : 2, atomic: false };
  if (size === 2 && column === 1 && multiple(2)) return { mode: 'pairs', vector: 1, atomic: false };
  return { mode: 'each', vector: 1, atomic: size < 4 };
}

/** The words of `common/wgsl/tiles.wgsl`'s Params that depend on the product. */
export interface Product {
  readonly op: string;
  readonly file: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: readonly [number, number];
  readonly y: Matrix;
  readonly c?: Matrix | undefined;
  readonly a: Matrix;
  /** Absent when the right operand is quantized. */
  readonly b?: Matrix | undefined;
  readonly alpha: number;
  readonly beta: number;
  readonly splits: number;
  readonly tile: Tile;
  /** h [m, k2] · l [n, k2]ᵀ · scale is added. */
  readonly extra?: { readonly h: Matrix; readonly l: Matrix; readonly k2: number; readonly scale: number } | undefined;
  /** The quantized right operand. */
  readonly quant?: { readonly codes: View; readonly scales: View; readonly codebook: View; readonly width: number; readonly shift: number } | undefined;
  readonly defines?: Defines;
}

/** Enqueues a product. */
export function launchProduct(launcher: Launcher, p: Product): void {
  const { tile } = p;
  const y = storeOf(p.y, p.n);
  const a = accessOf(p.a);
  const b = p.b && accessOf(p.b);
  const h = p.extra && accessOf(p.extra.h);
  const l = p.extra && accessOf(p.extra.l);
  const args: Arg[] = [{ name: 'y', view: p.y.view, write: true, vector: y.vector, atomic: y.atomic }];
  if (p.c) args.push({ name: 'c', view: p.c.view });
  args.push({ name: 'a', view: p.a.view, vector: a.vector });
  if (p.b && b) args.push({ name: 'b', view: p.b.view, vector: b.vector });
  if (p.quant) args.push({ name: 'w', view: p.quant.codes }, { name: 's', view: p.quant.scales }, { name: 't', view: p.quant.codebook });
  if (p.extra && h && l) args.push({ name: 'h', view: p.extra.h.view, vector: h.vector }, { name: 'l', view: p.extra.l.view, vector: l.vector });
  const bound = launcher.bind(p.op, args);
  const range = Math.ceil(Math.ceil(p.k / p.splits) / tile.BK) * tile.BK;
  writeParams(launcher, p, bound, args, range);
  const threads = threadsOf(tile);
  const blocks = ((tile.BM + tile.BN) / 4) * (tile.BK / 4);
  const defines: Record<string, string | number | boolean> = {
    ...tile,
    TMV: tile.TM / 4,
    TNV: tile.TN / 4,
    THREADS: threads,
    LOADS: Math.ceil(blocks / threads),
    UNROLL: 1,
    y_STORE: y.mode,
    ADDS: p.c !== undefined,
    EXTRA: p.extra !== undefined,
    LEFT_INNER: a.innerFirst,
    RIGHT_INNER: b ? b.innerFirst : true,
    a_MODE: a.mode,
    b_MODE: b?.mode ?? 'any',
    h_MODE: h?.mode ?? 'any',
    l_MODE: l?.mode ?? 'any',
    ...p.defines,
  };
  for (let i = 0; i < tile.TM; i++) defines[`VECTOR_OF_${i}`] = i >> 2;
  launcher.launch(bound, p.file, defines, Math.ceil(p.n / tile.BN), Math.ceil(p.m / tile.BM), p.batch[0] * p.batch[1] * p.splits);
}

function writeParams(launcher: Launcher, p: Product, bound: Bound, args: readonly Arg[], range: number): void {
  const at = (name: string): number => bound.offsets[args.findIndex((arg) => arg.name === name)] ?? 0;
  const none: Pick<Matrix, 'row' | 'column' | 'batch'> = { row: 0, column: 0, batch: [0, 0] };
  const c = p.c ?? none;
  const b = p.b ?? none;
  const h = p.extra?.h ?? none;
  const l = p.extra?.l ?? none;
  launcher.params
    .start()
    .u32(...p.y.batch, ...c.batch, ...p.a.batch, ...b.batch, p.m, p.n, p.k)
    .u32(at('y'), p.y.row, p.y.column, at('c'), c.row, c.column, at('a'), p.a.row, p.a.column)
    .u32(p.quant ? at('w') : at('b'), b.row, b.column, p.batch[1], p.splits, range, p.batch[0] * p.batch[1] * p.m * p.n)
    .f32(p.alpha, p.beta)
    .u32(p.extra?.k2 ?? 0, at('h'), h.row, h.column, at('l'), l.row, l.column)
    .f32(p.extra?.scale ?? 0)
    .u32(at('s'), at('t'), p.quant?.width ?? 0, p.quant?.shift ?? 0);
}
