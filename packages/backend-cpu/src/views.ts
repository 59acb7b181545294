import type { DType, TensorSpec, View } from '@lowrank/kernels';

/** Element types as kernels number them (kernels/common/wasm/simd.as.ts). */
export const typeCode: Readonly<Record<DType, number>> = { f32: 0, f16: 1, bf16: 2, i32: 5, u32: 6, u8: 7 };
export const CODES4 = 3;
export const CODES8 = 4;

/** A nest of loops over several operands at once: leading axes and one row, after joining axes that lie one behind the other. */
export interface Loop {
  /** Lengths of the leading axes. */
  readonly shape: readonly number[];
  /** Strides over the leading axes, one list an operand. */
  readonly strides: readonly (readonly number[])[];
  /** Length of a row. */
  readonly n: number;
  /** Stride along the row of each operand. */
  readonly steps: readonly number[];
  /** Rows in all. */
  readonly rows: number;
}

/** Axes of several operands joined where all of them allow it. Axes of length 1 go away. */
export function join(
  shape: readonly number[],
  operands: readonly (readonly number[])[],
): { shape: number[]; strides: number[][] } {
  const outShape: number[] = [];
  const out: number[][] = operands.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    const size = shape[axis]!;
    if (size === 1) continue;
    const last = outShape.length - 1;
    if (last >= 0 && operands.every((s, j) => out[j]![last] === s[axis]! * size)) {
      outShape[last]! *= size;
      operands.forEach((s, j) => {
        out[j]![last] = s[axis]!;
      });
    } else {
      outShape.push(size);
      operands.forEach((s, j) => {
        out[j]!.push(s[axis]!);
      });
    }
  }
  return { shape: outShape, strides: out };
}

/**
 * Loops over all axes. With `sort` the axes are first ordered as the last operand (the destination) lies in memory, which is right wherever
 * elements do not depend on their index.
 */
export function loopOver(shape: readonly number[], operands: readonly (readonly number[])[], sort = true): Loop {
  let order = [...shape.keys()];
  if (sort) {
    const key = operands.at(-1)!;
    order = order.filter((a) => shape[a] !== 1).sort((a, b) => key[b]! - key[a]! || a - b);
  }
  const joined = join(
    order.map((a) => shape[a]!),
    operands.map((s) => order.map((a) => s[a]!)),
  );
  return split(joined.shape, joined.strides);
}

/** Takes the last of the joined axes as the row. */
export function split(shape: readonly number[], strides: readonly (readonly number[])[]): Loop {
  const lead = shape.slice(0, -1);
  return {
    shape: lead,
    strides: strides.map((s) => s.slice(0, -1)),
    n: shape.at(-1) ?? 1,
    steps: strides.map((s) => s.at(-1) ?? 1),
    rows: lead.reduce((a, b) => a * b, 1),
  };
}

/** Loops over all axes but the last, which stays the row. */
export function rowsOf(
  specs: readonly { readonly strides: readonly number[] }[],
  shape: readonly number[],
): Omit<Loop, 'n' | 'steps'> {
  const lead = join(
    shape.slice(0, -1),
    specs.map((s) => s.strides.slice(0, shape.length - 1)),
  );
  return { ...lead, rows: lead.shape.reduce((a, b) => a * b, 1) };
}

/** Stride along the last axis; 1 where that axis has one element or none is there. */
export function lastStep(spec: Pick<TensorSpec, 'shape' | 'strides'>): number {
  const n = spec.shape.length;
  return n === 0 || spec.shape[n - 1] === 1 ? 1 : spec.strides[n - 1]!;
}

/** The same memory window. */
export function sameView(a: View, b: View): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset === b.byteOffset &&
    a.dtype === b.dtype &&
    a.strides.every((s, i) => s === b.strides[i] || a.shape[i] === 1)
  );
}
