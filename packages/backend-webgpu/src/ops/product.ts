import { contiguousStrides, specOf, type View } from '@lowrank/kernels';
import type { Arg, Bound, Launcher } from '../gpu/launcher.ts';
import type { Scratch } from '../gpu/scratch.ts';
import { elementwise } from '../gpu/strided.ts';
import type { TileShape } from '../gpu/variants.ts';
import {
  type Access,
  accessOf,
  chooseMatrixTile,
  chooseSplits,
  chooseTile,
  eightAccess,
  largeTiles,
  type Matrix,
  matrixTile,
  portableTile,
  softwareMemoryTile,
  softwareTile,
  storeOf,
  type Tile,
} from './tiles.ts';

/** y = alpha · a · b + beta · c (+ h · lᵀ · scale), with b dense or quantized. */
export interface Product {
  readonly op: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: readonly [number, number];
  readonly y: Matrix;
  readonly c?: Matrix | undefined;
  /** Rows m. */
  readonly a: Matrix;
  /** Rows n; absent when the right operand is quantized. */
  readonly b?: Matrix | undefined;
  readonly alpha: number;
  readonly beta: number;
  /** h [m, k2] · l [n, k2]ᵀ · scale is added; alpha is then 1. */
  readonly extra?: { readonly h: Matrix; readonly l: Matrix; readonly k2: number; readonly scale: number } | undefined;
  readonly quant?: QuantOperand | undefined;
}

/** A blockwise-quantized right operand [rows, width], or its transpose. */
export interface QuantOperand {
  readonly codes: View;
  readonly scales: View;
  readonly codebook: View;
  readonly bits: 4 | 8;
  readonly transposed: boolean;
  /** Length of its rows. */
  readonly width: number;
  /** log2 of the block size. */
  readonly shift: number;
}

/** How the operands are read by one kind of tile. */
interface Plan {
  readonly tile: Tile;
  /** Ranges that the inner axis is cut into. */
  readonly splits: number;
  readonly a: Access;
  readonly b: Access;
  readonly h: Access | undefined;
  readonly l: Access | undefined;
}

/**
 * Runs a product. Where its inner axis is cut, f32 partial sums go to scratch, and are added up in order with alpha, beta and c. Without
 * scratch it is not cut.
 */
export function runProduct(launcher: Launcher, scratch: Scratch | undefined, p: Product): void {
  const cuts = scratch !== undefined;
  const plan = matrixPlan(launcher, p, cuts) ?? portablePlan(launcher, p, cuts);
  const count = p.batch[0] * p.batch[1];
  const { splits } = plan;
  if (!scratch || splits === 1) {
    launchProduct(launcher, p, plan, 1);
    return;
  }
  const { m, n } = p;
  const shape = [...p.batch, m, n];
  const partial: View = {
    ...specOf([splits, ...shape], 'f32'),
    buffer: scratch.take(splits * count * m * n * 4),
    byteOffset: 0,
  };
  const sums: Matrix = { view: partial, row: n, column: 1, batch: [p.batch[1] * m * n, m * n] };
  launchProduct(launcher, { ...p, y: sums, c: undefined, alpha: 1, beta: 0 }, plan, splits);
  addUp(launcher, p, partial, splits);
}

/** y = alpha · Σ of partial sums [splits, …batch, m, n] + beta · c, in order. */
export function addUp(
  launcher: Launcher,
  p: Pick<Product, 'op' | 'batch' | 'm' | 'n' | 'y' | 'c' | 'alpha' | 'beta'>,
  partial: View,
  splits: number,
): void {
  const shape = [...p.batch, p.m, p.n];
  const size = p.batch[0] * p.batch[1] * p.m * p.n;
  const strides = ({ batch, row, column }: Matrix) => [...batch, row, column];
  elementwise(launcher, {
    op: p.op,
    file: 'matmul/combine.wgsl',
    shape,
    y: { view: p.y.view, strides: strides(p.y) },
    a: { view: partial, strides: contiguousStrides(shape), reach: (splits - 1) * size },
    b: p.c && { view: p.c.view, strides: strides(p.c) },
    defines: { ADDS: p.c !== undefined },
    words: { u0: splits, u1: size, f0: p.alpha, f1: p.beta },
  });
}

function portablePlan(launcher: Launcher, p: Product, cuts: boolean): Plan {
  const { variants } = launcher;
  const tableBytes = p.quant ? (1 << p.quant.bits) * 4 : 0;
  const a = accessOf(p.a);
  const b: Access = p.b ? accessOf(p.b) : { mode: 'any', vector: 1, innerFirst: !p.quant!.transposed };
  const choose = (large: TileShape) => chooseTile(launcher.gpu, large, p.m, p.n, p.batch[0] * p.batch[1], tableBytes);
  const { software } = variants;
  const shape = variants.tile ?? (software ? softwareTile : choose(variants.large ?? largeTiles[0]!));
  // Without workgroup memory operands are taken by vectors.
  const takes = shape.stages !== 0 || (a.mode !== 'any' && b.mode !== 'any');
  return {
    splits: cuts ? chooseSplits(p.m, p.n, p.k, p.batch[0] * p.batch[1]) : 1,
    tile: portableTile(takes ? shape : software ? softwareMemoryTile : choose(largeTiles[0]!)),
    a,
    b,
    h: p.extra && accessOf(p.extra.h),
    l: p.extra && accessOf(p.extra.l),
  };
}

/** Subgroup matrices take products of f16 large enough to fill them, where everything lies on vectors of eight. */
function matrixPlan(launcher: Launcher, p: Product, cuts: boolean): Plan | undefined {
  const { matrix } = launcher.variants;
  if (!matrix || p.m < 64 || p.n < 64 || p.k < 32) return undefined;
  // A shared buffer would take the vectors from its binding.
  const reads = [p.a, p.b, p.extra?.h, p.extra?.l];
  if (reads.some((r) => r?.view.buffer === p.y.view.buffer)) return undefined;
  const a = eightAccess(p.a, p.m, p.k);
  const b = p.b ? eightAccess(p.b, p.n, p.k) : quantAccess(p);
  if (!a || !b) return undefined;
  const h = p.extra && eightAccess(p.extra.h, p.m, p.extra.k2, true);
  const l = p.extra && eightAccess(p.extra.l, p.n, p.extra.k2, true);
  if (p.extra && (h?.mode !== a.mode || l?.mode !== b.mode)) return undefined;
  const layout = `${a.innerFirst ? 'N' : 'T'}${b.innerFirst ? 'T' : 'N'}` as const;
  const count = p.batch[0] * p.batch[1];
  const { matrixTile: forced } = launcher.variants;
  const { tile: shape, splits } = forced
    ? { tile: forced, splits: cuts ? chooseSplits(p.m, p.n, p.k, count) : 1 }
    : chooseMatrixTile(launcher.gpu, matrix, layout, [p.m, p.n, p.k, count], cuts);
  return { tile: matrixTile(launcher.gpu, matrix, shape), splits, a, b, h, l };
}

function quantAccess({ quant, n, k }: Product): Access | undefined {
  if (!quant || quant.width % 8 !== 0 || quant.codes.byteOffset % 4 !== 0) return undefined;
  if (quant.transposed) return n % 8 === 0 ? { mode: 'outer', vector: 1, innerFirst: false } : undefined;
  return k % 8 === 0 ? { mode: 'inner', vector: 1, innerFirst: true } : undefined;
}

function launchProduct(launcher: Launcher, p: Product, { tile, a, b, h, l }: Plan, splits: number): void {
  const y = storeOf(p.y, p.n);
  const args: Arg[] = [{ name: 'y', view: p.y.view, write: true, vector: y.vector, atomic: y.atomic }];
  if (p.c) args.push({ name: 'c', view: p.c.view });
  args.push({ name: 'a', view: p.a.view, vector: a.vector });
  if (p.b) args.push({ name: 'b', view: p.b.view, vector: b.vector });
  if (p.quant)
    args.push(
      { name: 'w', view: p.quant.codes },
      { name: 's', view: p.quant.scales },
      { name: 't', view: p.quant.codebook },
    );
  if (p.extra && h && l)
    args.push(
      { name: 'h', view: p.extra.h.view, vector: h.vector },
      { name: 'l', view: p.extra.l.view, vector: l.vector },
    );
  const bound = launcher.bind(p.op, args);
  const range = Math.ceil(Math.ceil(p.k / splits) / tile.BK) * tile.BK;
  writeParams(launcher, p, bound, args, range, splits);
  const defines: Record<string, string | number | boolean> = {
    ...tile.defines,
    y_STORE: y.mode,
    ADDS: p.c !== undefined,
    EXTRA: p.extra !== undefined,
    LEFT_INNER: a.innerFirst,
    RIGHT_INNER: b.innerFirst,
    a_MODE: a.mode,
    b_MODE: b.mode,
    h_MODE: h?.mode ?? 'any',
    l_MODE: l?.mode ?? 'any',
  };
  if (p.quant) {
    defines.BITS = p.quant.bits;
    defines.TRANSPOSED = p.quant.transposed;
    defines.ALIGNED = p.quant.width % 4 === 0 && p.quant.codes.byteOffset % 4 === 0;
  }
  const kernel = p.quant ? 'quant-matmul' : 'matmul';
  const file = `${kernel}/${{ memory: kernel, direct: 'direct', matrix: 'matrix' }[tile.kind]}.wgsl`;
  launcher.launch(
    bound,
    file,
    defines,
    Math.ceil(p.n / tile.BN),
    Math.ceil(p.m / tile.BM),
    p.batch[0] * p.batch[1] * splits,
  );
}

/** The struct of `common/wgsl/product-params.wgsl`. */
function writeParams(
  launcher: Launcher,
  p: Product,
  bound: Bound,
  args: readonly Arg[],
  range: number,
  splits: number,
): void {
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
    .u32(p.quant ? at('w') : at('b'), b.row, b.column, p.batch[1], splits, range, p.batch[0] * p.batch[1] * p.m * p.n)
    .f32(p.alpha, p.beta)
    .u32(p.extra?.k2 ?? 0, at('h'), h.row, h.column, at('l'), l.row, l.column)
    .f32(p.extra?.scale ?? 0)
    .u32(at('s'), at('t'), p.quant?.width ?? 0, p.quant?.shift ?? 0);
}
