import { type Call, extentBytes, LowrankError, type Matmul, sizeOf, specOf, type View } from '@lowrank/kernels';
import type { Launcher } from '../gpu/launcher.ts';
import type { Scratch } from '../gpu/scratch.ts';
import { collapse } from '../gpu/shape.ts';
import { moved } from '../gpu/strided.ts';
import { isThin, thinProducts } from './pairs.ts';
import { addUp, runProduct } from './product.ts';
import { type Matrix, matrixOf, transposed } from './tiles.ts';

/** Rows and inner indices from which a product with few columns goes to the kernel for them. */
const longFrom = 256;

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

function matrixView(view: View): View {
  return { ...view, shape: view.shape.slice(-2), strides: view.strides.slice(-2) };
}

export function matmul(
  launcher: Launcher,
  scratch: Scratch,
  { inputs: { a, b, c }, outputs: { y }, attrs }: Call<Matmul>,
): void {
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
  spread(
    launcher,
    scratch,
    foldRows(
      turned
        ? {
            ...p,
            m: p.n,
            n: p.m,
            y: transposed(p.y),
            a: transposed(p.b),
            b: transposed(p.a),
            c: p.c && transposed(p.c),
            strides: swap(p.strides),
          }
        : p,
    ),
  );
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
  return {
    ...p,
    shape: [],
    strides: p.strides.map(() => []),
    m: p.m * count!,
    y: taller(p.y),
    a: taller(p.a),
    c: p.c && taller(p.c),
  };
}

/** Cuts what is too much for one dispatch: batch axes beyond two or the grid's depth, and operands larger than a binding. */
function spread(launcher: Launcher, scratch: Scratch, p: Batched): void {
  const [count] = p.shape;
  const big = (view: View, i: number) => {
    if (view.buffer.byteLength <= launcher.gpu.maxBinding) return false;
    return (
      extentBytes({
        dtype: view.dtype,
        shape: [...p.shape, ...view.shape],
        strides: [...p.strides[i]!, ...view.strides],
      }) +
        256 >
      launcher.gpu.maxBinding
    );
  };
  const [bigY, bigA, bigB, bigC] = [big(p.y, 0), big(p.a, 1), big(p.b, 2), p.c ? big(p.c, 3) : false];
  const tooBig = bigY || bigA || bigB || bigC;
  if (count !== undefined && (p.shape.length > 2 || sizeOf(p.shape) > 65535 || tooBig)) {
    const at = (i: number) => p.strides.map((s) => s[0]! * i);
    for (let i = 0; i < count; i++) {
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
  if (!tooBig) {
    product(launcher, scratch, p);
    return;
  }
  // The sum over ranges of the inner axis must fit a binding, too.
  const bigSum = p.m * p.n * 4 + 256 > launcher.gpu.maxBinding;
  const axis = cutAxis(p, bigA, bigB, bigY || bigC || bigSum);
  if (p[axis] === 1)
    throw new LowrankError(
      'matmul',
      'operand larger than a binding of this device',
      `[${p.m}, ${p.k}] · [${p.k}, ${p.n}]`,
      'Split the tensor into smaller ones',
    );
  if (axis === 'k') {
    cutInner(launcher, scratch, p);
    return;
  }
  const half = Math.ceil(p[axis] / 2);
  for (const [at, count] of [
    [0, half],
    [half, p[axis] - half],
  ] as const)
    spread(
      launcher,
      scratch,
      axis === 'm'
        ? {
            ...p,
            m: count,
            y: piece(p.y, 0, at, count),
            a: piece(p.a, 0, at, count),
            c: p.c && piece(p.c, 0, at, count),
          }
        : {
            ...p,
            n: count,
            y: piece(p.y, 1, at, count),
            b: piece(p.b, 1, at, count),
            c: p.c && piece(p.c, 1, at, count),
          },
    );
}

/** The axis with the longer steps of what is too large: cutting it makes the window smaller. The inner axis comes last. */
function cutAxis({ a, b, y, m, n }: Batched, bigA: boolean, bigB: boolean, bigY: boolean): 'm' | 'n' | 'k' {
  const outer = (view: View) => view.strides[0]! >= view.strides[1]!;
  const byRows = outer(a);
  const byColumns = !outer(b);
  if (bigA && byRows && m > 1) return 'm';
  if (bigB && byColumns && n > 1) return 'n';
  if (bigY && (m > 1 || n > 1)) return (outer(y) && m > 1) || n === 1 ? 'm' : 'n';
  return bigA && !byRows ? 'k' : bigB && !byColumns ? 'k' : bigA ? 'm' : 'n';
}

/** Some rows or columns of a matrix. */
function piece(view: View, axis: 0 | 1, at: number, count: number): View {
  return {
    ...moved(view, at * view.strides[axis]!),
    shape: axis === 0 ? [count, view.shape[1]!] : [view.shape[0]!, count],
  };
}

/** Ranges of the inner axis one after another, summed in f32. */
function cutInner(launcher: Launcher, scratch: Scratch, p: Batched): void {
  const { maxBinding } = launcher.gpu;
  const a = (at: number, count: number) => piece(p.a, 1, at, count);
  const b = (at: number, count: number) => piece(p.b, 0, at, count);
  let range = p.k;
  while (range > 1 && Math.max(extentBytes(a(0, range)), extentBytes(b(0, range))) + 256 > maxBinding)
    range = Math.ceil(range / 2);
  const shape = [p.m, p.n];
  const sum: View = { ...specOf(shape, 'f32'), buffer: scratch.take(p.m * p.n * 4), byteOffset: 0 };
  for (let at = 0; at < p.k; at += range) {
    const count = Math.min(range, p.k - at);
    product(launcher, undefined, {
      ...p,
      k: count,
      y: sum,
      a: a(at, count),
      b: b(at, count),
      c: at > 0 ? sum : undefined,
      strides: [[], [], [], []],
      alpha: 1,
      beta: 1,
    });
  }
  addUp(
    launcher,
    {
      op: 'matmul',
      batch: [1, 1],
      m: p.m,
      n: p.n,
      y: matrixOf(p.y),
      c: p.c && matrixOf(p.c),
      alpha: p.alpha,
      beta: p.beta,
    },
    sum,
    1,
  );
}

function product(launcher: Launcher, scratch: Scratch | undefined, p: Batched): void {
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
  const [y, a, b] = [matrix(p.y, 0), matrix(p.a, 1), matrix(transposed(p.b), 2)];
  const thin = [{ x: a, p: b, y, n, k, scale: p.alpha }];
  const plain = !p.c && p.shape.length === 0 && !launcher.variants.software;
  if (plain && m >= longFrom && k >= longFrom && isThin(thin)) {
    thinProducts(launcher, 'matmul', m, thin);
    return;
  }
  runProduct(launcher, scratch, {
    ...{ op: 'matmul', m, n, k, batch, y, a, b },
    c: p.c && matrix(p.c, 3),
    alpha: p.alpha,
    beta: p.beta,
  });
}
