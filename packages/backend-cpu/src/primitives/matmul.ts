import { bytesOf, type Call, type Matmul, sizeOf, type View } from '@lowrank/kernels';
import type { Engine } from '../runtime/engine.ts';
import { join, sameView, typeCode } from '../views.ts';
import { convert } from './elementwise.ts';
import { type GemmOptions, gemm, type Matrix, type MatrixB } from './gemm.ts';
import { temporaryView } from './temporary.ts';

/** Rows of results that are held in f32 before they are stored in another dtype, in elements. */
const BLOCK = 1 << 20;

const rankOf = (view: View) => view.shape.length;
const rowStride = (view: View) => view.strides[rankOf(view) - 2]!;
const columnStride = (view: View) => view.strides[rankOf(view) - 1]!;

/** The last two axes of a view as a matrix. */
export function matrixOf(engine: Engine, view: View): Matrix {
  return {
    pointer: engine.pointer(view),
    type: typeCode[view.dtype],
    row: rowStride(view),
    column: columnStride(view),
  };
}

export function matmul(
  engine: Engine,
  { inputs: { a, b, c }, outputs: { y }, attrs: { alpha = 1, beta = 1 } }: Call<Matmul>,
): void {
  if (sizeOf(y.shape) === 0) return;
  const rank = rankOf(y);
  const [M, N] = [y.shape[rank - 2]!, y.shape[rank - 1]!];
  const K = a.shape[rank - 1]!;
  const lead = y.shape.slice(0, -2);
  const joined = join(
    lead,
    [a, b, y].map((v) => v.strides.slice(0, -2)),
  );
  const unitColumns = N === 1 || columnStride(y) === 1;
  if (y.dtype === 'f32' && unitColumns && joined.shape.length <= 2) {
    const options = { alpha, ...addend(engine, c, y, beta) };
    const [outer, inner] = joined.shape.length === 2 ? (joined.shape as [number, number]) : [1, joined.shape[0] ?? 1];
    const strides = joined.strides.map((s) => ({ outer: s.length === 2 ? s[0]! : 0, inner: s.at(-1) ?? 0 }));
    const destination = { pointer: engine.pointer(y), row: rowStride(y), ...strides[2]! };
    gemm(
      engine,
      { ...matrixOf(engine, a), ...strides[0]! },
      { ...matrixOf(engine, b), ...strides[1]! },
      destination,
      M,
      N,
      K,
      { ...options, outer, inner },
    );
    return;
  }
  // Any destination: batch by batch, through blocks of f32 rows.
  for (let i = 0; i < sizeOf(lead); i++) {
    const at = (v: View) => matrixAt(v, lead, i);
    product(engine, at(a), at(b), c && at(c), at(y), M, N, K, alpha, beta);
  }
}

/** Batch number `i` of a view, as a view of two axes. */
function matrixAt(view: View, lead: readonly number[], i: number): View {
  let offset = 0;
  for (let axis = lead.length - 1; axis >= 0; axis--) {
    offset += (i % lead[axis]!) * view.strides[axis]!;
    i = Math.floor(i / lead[axis]!);
  }
  return {
    ...view,
    byteOffset: view.byteOffset + offset * bytesOf[view.dtype],
    shape: view.shape.slice(-2),
    strides: view.strides.slice(-2),
  };
}

/** How c comes into f32 results at y: in place, as a row that is added, or moved there first. */
function addend(engine: Engine, c: View | undefined, y: View, beta: number): Pick<GemmOptions, 'beta' | 'bias'> {
  if (!c || beta === 0) return { beta: 0 };
  if (sameView(c, y)) return { beta };
  const repeats = c.strides.slice(0, -1).every((s, i) => s === 0 || c.shape[i] === 1);
  if (repeats && beta === 1) return { beta: 0, bias: rowPointer(engine, c) };
  convert(engine, c, y);
  return { beta };
}

/** Address of the last axis of a view as f32 without gaps. */
export function rowPointer(engine: Engine, view: View): number {
  const n = view.shape.at(-1)!;
  const step = view.strides.at(-1)!;
  if (view.dtype === 'f32' && (step === 1 || n === 1)) return engine.pointer(view);
  const row = temporaryView(engine, [n], 'f32');
  convert(engine, { ...view, shape: [n], strides: [step] }, row);
  return engine.pointer(row);
}

/** One product into a destination of any dtype and strides. */
function product(
  engine: Engine,
  a: View,
  b: View,
  c: View | undefined,
  y: View,
  M: number,
  N: number,
  K: number,
  alpha: number,
  beta: number,
): void {
  const rows = Math.max(1, Math.min(M, Math.floor(BLOCK / N)));
  const block = temporaryView(engine, [rows, N], 'f32');
  for (let m = 0; m < M; m += rows) {
    const count = Math.min(rows, M - m);
    const part = (v: View): View => ({
      ...v,
      byteOffset: v.byteOffset + m * v.strides[0]! * bytesOf[v.dtype],
      shape: [count, v.shape[1]!],
    });
    const to: View = { ...block, shape: [count, N] };
    gemmInto(engine, part(a), { ...matrixOf(engine, b) }, c && part(c), to, part(y), K, alpha, beta);
  }
}

/** A product into a block of f32 rows, then into its place. */
export function gemmInto(
  engine: Engine,
  a: View,
  b: MatrixB,
  c: View | undefined,
  block: View,
  y: View,
  K: number,
  alpha: number,
  beta: number,
): void {
  const [M, N] = block.shape as [number, number];
  const options = { alpha, ...addend(engine, c, block, beta) };
  gemm(engine, matrixOf(engine, a), b, { pointer: engine.pointer(block), row: block.strides[0]! }, M, N, K, options);
  if (!sameView(block, y)) convert(engine, block, y);
}
