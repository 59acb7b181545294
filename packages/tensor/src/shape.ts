import { check, contiguousStrides, sizeOf } from '@lowrank/kernels';

/** The shape that two shapes broadcast to (NumPy's rule). */
export function broadcastShapes(a: readonly number[], b: readonly number[], op = 'broadcast'): number[] {
  const n = Math.max(a.length, b.length);
  const out = new Array<number>(n);
  for (let i = 0; i < n; i++) {
    const x = a[i - n + a.length] ?? 1;
    const y = b[i - n + b.length] ?? 1;
    check(x === y || x === 1 || y === 1, op, 'shapes do not broadcast', () => `[${a}] and [${b}]`);
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/** Fills in one −1 of a shape. */
export function resolveShape(size: number, shape: readonly number[]): number[] {
  const known = shape.reduce((p, d) => (d === -1 ? p : p * d), 1);
  const holes = shape.filter((d) => d === -1).length;
  check(holes <= 1, 'reshape', 'at most one -1', () => `[${shape}]`);
  const out = holes && known > 0 ? shape.map((d) => (d === -1 ? size / known : d)) : [...shape];
  check(
    out.every((d) => Number.isInteger(d) && d >= 0) && sizeOf(out) === size,
    'reshape',
    'sizes differ',
    () => `${size} elements into [${shape}]`,
  );
  return out;
}

/** Strides of the same memory under another shape, or undefined when it takes a copy. */
export function reshapeStrides(
  shape: readonly number[],
  strides: readonly number[],
  to: readonly number[],
): number[] | undefined {
  if (sizeOf(shape) === 0) return contiguousStrides(to);
  // merge axes that lie in one run, then cut them to the new shape
  const runs: { size: number; stride: number }[] = [];
  for (let i = 0; i < shape.length; i++) {
    if (shape[i] === 1) continue;
    const last = runs[runs.length - 1];
    if (last && last.stride === strides[i]! * shape[i]!) {
      last.size *= shape[i]!;
      last.stride = strides[i]!;
    } else runs.push({ size: shape[i]!, stride: strides[i]! });
  }
  const out = new Array<number>(to.length).fill(0);
  let run = runs.length - 1;
  let left = run >= 0 ? runs[run]!.size : 1;
  let stride = run >= 0 ? runs[run]!.stride : 1;
  for (let i = to.length - 1; i >= 0; i--) {
    const d = to[i]!;
    if (d === 1) {
      out[i] = stride;
      continue;
    }
    if (left === 1 && run > 0) {
      run--;
      left = runs[run]!.size;
      stride = runs[run]!.stride;
    }
    if (left % d !== 0) return undefined;
    out[i] = stride;
    stride *= d;
    left /= d;
  }
  return out;
}

/** Turns −1 … −n into 0 … n − 1. */
export function axisOf(axis: number, rank: number, op: string): number {
  const a = axis < 0 ? axis + rank : axis;
  check(Number.isInteger(a) && a >= 0 && a < rank, op, 'axis out of range', () => `${axis} of ${rank} axes`);
  return a;
}
