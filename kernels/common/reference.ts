import type { MapOperands, OpTypes } from './contract.ts';
import type { DType } from './dtype.ts';
import { sizeOf } from './view.ts';

/**
 * A tensor of the references: row-major, every element a number. Inputs hold values that their dtype can represent; float outputs are
 * not rounded to their dtype (except where rounding is what the op does), integer outputs are.
 */
export interface RefArray {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What an op computes, in f64 and in the plainest loops: the oracle that kernels are compared with. */
export type Reference<O extends OpTypes> = (
  inputs: MapOperands<O['inputs'], RefArray>,
  attrs: O['attrs'],
) => MapOperands<O['outputs'], RefArray>;

export function defineReference<O extends OpTypes>(reference: Reference<O>): Reference<O> {
  return reference;
}

/** A new array of zeros. */
export function zeros(shape: readonly number[], dtype: DType): RefArray {
  return { dtype, shape, data: new Float64Array(sizeOf(shape)) };
}

/** f of each element, in a new array of x's shape. */
export function mapArray(x: RefArray, f: (value: number, i: number) => number, dtype: DType = x.dtype): RefArray {
  return { dtype, shape: x.shape, data: x.data.map(f) };
}

/** [rows, width]: the last axis is the width, all others are rows. */
export function asRows(shape: readonly number[]): readonly [rows: number, width: number] {
  return [sizeOf(shape.slice(0, -1)), shape[shape.length - 1] ?? 1];
}

/** Calls `f` with each multi-index of a shape, row-major. The index array is reused. */
export function eachIndex(shape: readonly number[], f: (index: readonly number[], i: number) => void): void {
  const index = new Array<number>(shape.length).fill(0);
  const size = sizeOf(shape);
  for (let i = 0; i < size; i++) {
    f(index, i);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
}
