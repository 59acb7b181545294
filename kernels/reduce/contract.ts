import { defineContract } from '../common/contract.ts';
import { type DType, isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, specOf, type View } from '../common/view.ts';

export type ReduceOp = 'sum' | 'sumSquares' | 'max' | 'min' | 'argmax';

/**
 * Reduces `axes` (ascending, distinct), which stay as axes of length 1. Floats accumulate in f32 in an order that depends on shapes alone,
 * integers in 32 bits, modulo 2³².
 * Empty sums are 0; max, min and argmax refuse empty axes. NaN wins max and min. `argmax` takes one axis, gives the first index, as i32.
 * `dtype` of y: x's own, or f32 for sums.
 */
export interface Reduce {
  inputs: { x: View };
  outputs: { y: View };
  attrs: { op: ReduceOp; axes: readonly number[]; dtype?: DType };
}

export const reduce = defineContract<Reduce>({
  kind: 'primitive',
  name: 'reduce',
  infer: ({ x }, { op, axes, dtype }) => {
    check(
      axes.every((a, i) => a >= 0 && a < x.shape.length && (i === 0 || a > axes[i - 1]!)),
      `reduce ${op}`,
      'axes must be ascending and in range',
      () => `axes [${axes}], ${describe(x)}`,
    );
    const sum = op === 'sum' || op === 'sumSquares';
    check(
      sum || axes.every((a) => x.shape[a]! > 0),
      `reduce ${op}`,
      'empty axis',
      () => `axes [${axes}], ${describe(x)}`,
    );
    check(isFloat(x.dtype) || (op !== 'sumSquares' && op !== 'argmax'), `reduce ${op}`, 'needs floats', x.dtype);
    check(op !== 'argmax' || axes.length === 1, 'reduce argmax', 'takes one axis', () => `axes [${axes}]`);
    const out = op === 'argmax' ? 'i32' : (dtype ?? x.dtype);
    check(
      op === 'argmax' || out === x.dtype || (out === 'f32' && isFloat(x.dtype)),
      `reduce ${op}`,
      'y must be of the dtype of x, or f32',
      `${x.dtype} into ${out}`,
    );
    return {
      y: specOf(
        x.shape.map((d, i) => (axes.includes(i) ? 1 : d)),
        out,
      ),
    };
  },
});
