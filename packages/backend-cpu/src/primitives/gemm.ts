import type { Engine } from '../runtime/engine.ts';

/** A dense operand of a product: address, element type, strides over rows and columns, and over two batch axes (all in elements). */
export interface Matrix {
  readonly pointer: number;
  readonly type: number;
  readonly row: number;
  readonly column: number;
  readonly outer?: number;
  readonly inner?: number;
}

/** The second operand may be codes: then `column` or `row` is 1, and absmax and codebook are f32. */
export interface MatrixB extends Matrix {
  readonly absmax?: number;
  readonly codebook?: number;
  readonly blockSize?: number;
}

/** f32 with unit stride over columns. */
export interface Destination {
  readonly pointer: number;
  readonly row: number;
  readonly outer?: number;
  readonly inner?: number;
}

export interface GemmOptions {
  readonly alpha?: number;
  /** 0: C is overwritten. */
  readonly beta?: number;
  /** Address of f32 [N], added to every row; 0 for none. */
  readonly bias?: number;
  /** Batches: outer · inner, with a stride for each. */
  readonly outer?: number;
  readonly inner?: number;
}

/** What one thread computes, f32 products and sums a nanosecond: used to decide what is worth splitting, not reported. */
const FLOPS_PER_NS = 20;
const MR = 6;
const STRIP = 64;

const roundUp = (n: number, to: number) => Math.ceil(n / to) * to;

/** C[M, N] = alpha · A·B + beta · C + bias, batched. Results do not depend on the number of threads. */
export function gemm(
  engine: Engine,
  a: Matrix,
  b: MatrixB,
  c: Destination,
  M: number,
  N: number,
  K: number,
  options: GemmOptions = {},
): void {
  const { alpha = 1, beta = 0, bias = 0, outer = 1, inner = 1 } = options;
  const batch = outer * inner;
  if (M === 0 || N === 0 || batch === 0) return;
  if (
    M === 1 &&
    batch === 1 &&
    K > 0 &&
    a.type === 0 &&
    a.column === 1 &&
    gemv(engine, a, b, c, N, K, alpha, beta, bias)
  )
    return;
  const work = (2 * M * N * K) / FLOPS_PER_NS;
  const [tileM, tileN] = tiles(engine, M, N, batch, work);
  const args = [
    ...[a.pointer, a.type, a.row, a.column, a.outer ?? 0, a.inner ?? 0],
    ...[
      b.pointer,
      b.type,
      b.row,
      b.column,
      b.outer ?? 0,
      b.inner ?? 0,
      b.absmax ?? 0,
      b.codebook ?? 0,
      b.blockSize ?? 0,
    ],
    ...[c.pointer, c.row, c.outer ?? 0, c.inner ?? 0],
    ...[M, N, K, inner, alpha, beta, bias, tileM, tileN],
  ];
  const units = batch * Math.ceil(M / tileM) * Math.ceil(N / tileN);
  engine.run('gemm', args, units, (work * batch) / units);
}

/**
 * Tiles of C that one thread makes at a time. Rows in even parts of at most the packed block of A; columns as wide as can be (each tile packs its
 * rows of A anew) while there are enough tiles to keep all threads busy to the end.
 */
function tiles(
  engine: Engine,
  M: number,
  N: number,
  batch: number,
  work: number,
): readonly [tileM: number, tileN: number] {
  const limit = engine.call('gemmBlockM');
  const even = (count: number) => Math.min(M, roundUp(Math.ceil(M / count), MR));
  let parts = Math.ceil(M / limit);
  const wanted = engine.threads === 1 || work * batch < 100_000 ? 1 : engine.threads * 3;
  if (batch * parts >= wanted) return [even(parts), N];
  const columns = Math.min(Math.ceil(N / STRIP), Math.ceil(wanted / (batch * parts)));
  const tileN = Math.min(N, roundUp(Math.ceil(N / columns), STRIP));
  const across = Math.ceil(N / tileN);
  if (batch * parts * across < wanted) parts = Math.min(Math.ceil(M / (4 * MR)), Math.ceil(wanted / (batch * across)));
  return [even(parts), tileN];
}

/** One row: bound by reading B, so the kernels that do not pack. True when one of them fits. */
function gemv(
  engine: Engine,
  a: Matrix,
  b: MatrixB,
  c: Destination,
  N: number,
  K: number,
  alpha: number,
  beta: number,
  bias: number,
): boolean {
  const kind = b.row === 1 ? 'gemvRows' : b.column === 1 ? 'gemvColumns' : undefined;
  if (!kind) return false;
  const stride = kind === 'gemvRows' ? b.column : b.row;
  const args = [
    a.pointer,
    b.pointer,
    b.type,
    stride,
    b.absmax ?? 0,
    b.codebook ?? 0,
    b.blockSize ?? 0,
    c.pointer,
    N,
    K,
    alpha,
    beta,
    bias,
  ];
  const unit = kind === 'gemvRows' ? 4 : 256;
  engine.run(kind, args, Math.ceil(N / unit), K * unit * 0.4);
  return true;
}
