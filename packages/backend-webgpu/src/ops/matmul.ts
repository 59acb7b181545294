import { bytesOf, type Call, extentBytes, LowrankError, type Matmul, sizeOf, type View } from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import type { Scratch } from '../gpu/scratch.ts';
import { collapse } from '../gpu/shape.ts';
import { runProduct } from './product.ts';
import { type Matrix, matrixOf, transposed } from './tiles.ts';

/** A product with its batch axes apart from its matrices. */
interface Batched {
  readonly shape: readonly number[];
  /** y, a, b and perhaps c over the batch axes. */
  readonly strides: readonly (readonly number[])[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly y: View;
  readonly a: View;
  readonly b: View;
  readonly c: View | undefined;
  readonly alpha: number;
  readonly beta: number;
}

/** A view of a matrix at the end of its axes, moved by elements. */
function moved<V extends View>(view: V, elements: number): V {
  return elements ? { ...view, byteOffset: view.byteOffset + elements * bytesOf[view.dtype] } : view;
}

function matrixView(view: View): View {
  return { ...view, shape: view.shape.slice(-2), strides: view.strides.slice(-2) };
}

export function matmul(launcher: Launcher, scratch: Scratch, { inputs: { a, b, c }, outputs: { y }, attrs }: Call<Matmul>): void {
  if (sizeOf(y.shape) === 0) return;
  const axes = y.shape.length - 2;
  const batch = collapse(
    y.shape.slice(0, axes),
    [y, a, b, ...(c ? [c] : [])].map((v) => v.strides.slice(0, axes)),
  );
  const p: Batched = {
    ...batch,
    m: y.shape[axes]!,
    n: y.shape[axes + 1]!,
    k: a.shape[axes + 1]!,
    y: matrixView(y),
    a: matrixView(a),
    b: matrixView(b),
    c: c && matrixView(c),
    alpha: attrs.alpha ?? 1,
    beta: attrs.beta ?? 1,
  };
  const [, columnStride] = p.y.strides;
  // Rows of y lie side by side where they can: yᵀ = bᵀ aᵀ.
  const turned = columnStride !== 1 && p.y.strides[0] === 1;
  spread(launcher, scratch, foldRows(turned ? { ...p, m: p.n, n: p.m, y: transposed(p.y), a: transposed(p.b), b: transposed(p.a), c: p.c && transposed(p.c), strides: swap(p.strides) } : p));
}

/** y, b, a, c for y, a, b, c. */
function swap(strides: Batched['strides']): Batched['strides'] {
  return [strides[0]!, strides[2]!, strides[1]!, ...strides.slice(3)];
}

/** A batch of rows against one b is one taller product. */
function foldRows(p: Batched): Batched {
  const [count] = p.shape;
  if (p.shape.length !== 1 || p.strides[2]![0] !== 0) return p;
  const views = [p.y, p.a, undefined, p.c];
  const even = views.every((v, i) => !v || p.strides[i]![0] === v.strides[0]! * p.m);
  if (!even) return p;
  const taller = (v: View): View => ({ ...v, shape: [v.shape[0]! * count!, v.shape[1]!] });
  return { ...p, shape: [], strides: p.strides.map(() => []), m: p.m * count!, y: taller(p.y), a: taller(p.a), c: p.c && taller(p.c) };
}

/** Cuts what is too much for one dispatch: batch axes beyond two or the grid's depth, and operands larger than a binding. */
function spread(launcher: Launcher, scratch: Scratch, p: Batched): void {
  const [first] = p.shape;
  const big = (view: View, i: number) => {
    if (view.buffer.byteLength <= launcher.gpu.maxBinding) return false;
    return extentBytes({ dtype: view.dtype, shape: [...p.shape, ...view.shape], strides: [...p.strides[i]!, ...view.strides] }) + 256 > launcher.gpu.maxBinding;
  };
  const [bigY, bigA, bigB, bigC] = [big(p.y, 0), big(p.a, 1), big(p.b, 2), p.c ? big(p.c, 3) : false];
  const tooBig = bigY || bigA || bigB || bigC;
  if (first !== undefined && (p.shape.length > 2 || sizeOf(p.shape) > 65535 || tooBig)) {
    const at = (i: number) => p.strides.map((s) => s[0]! * i);
    for (let i = 0; i < first; i++) {
      const [y, a, b, c] = at(i);
      spread(launcher, scratch, {
        ...p,
        shape: p.shape.slice(1),
        strides: p.strides.map((s) => s.slice(1)),
        y: moved(p.y, y!),
        a: moved(p.a, a!),
        b: moved(p.b, b!),
        c: p.c && moved(p.c, c!),
      });
    }
    return;
  }
  if (!tooBig) return product(launcher, scratch, p);
  // Halves of rows or of columns, whichever the large operand has.
  const byRows = bigA || (!bigB && p.m >= p.n);
  const size = byRows ? p.m : p.n;
  if (size === 1) throw new LowrankError('matmul', 'operand larger than a binding of this device', `[${p.m}, ${p.k}] · [${p.k}, ${p.n}]`, 'Split the tensor into smaller ones');
  const part = (view: View, axis: 0 | 1, from: number, count: number): View => ({
    ...moved(view, from * view.strides[axis]!),
    shape: axis === 0 ? [count, view.shape[1]!] : [view.shape[0]!, count],
  });
  const half = Math.ceil(size / 2);
  for (const [from, count] of [
    [0, half],
    [half, size - half],
  ] as const)
    spread(
      launcher,
      scratch,
      byRows
        ? { ...p, m: count, y: part(p.y, 0, from, count), a: part(p.a, 0, from, count), c: p.c && part(p.c, 0, from, count) }
        : { ...p, n: count, y: part(p.y, 1, from, count), b: part(p.b, 1, from, count), c: p.c && part(p.c, 1, from, count) },
    );
}

function product(launcher: Launcher, scratch: Scratch, p: Batched): void {
  const { m, n, k } = p;
  const batch = [p.shape[p.shape.length - 2] ?? 1, p.shape[p.shape.length - 1] ?? 1] as const;
  const steps = (i: number): [number, number] => {
    const s = p.strides[i]!;
    return [s[s.length - 2] ?? 0, s[s.length - 1] ?? 0];
  };
  const matrix = (view: View, i: number): Matrix => ({
    ...matrixOf(view),
    view: { ...view, shape: [...p.shape, ...view.shape], strides: [...p.strides[i]!, ...view.strides] },
    batch: steps(i),
  });
  const b = transposed(p.b);
  runProduct(launcher, scratch, {
    op: 'matmul',
    m,
    n,
    k,
    batch,
    y: matrix(p.y, 0),
    c: p.c && matrix(p.c, 3),
    a: matrix(p.a, 1),
    b: matrix(b, 2),
    alpha: p.alpha,
    beta: p.beta,
  });
}
