import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';
import { type BinaryOp, binaryOps } from './table.ts';

/**
 * y = op(a, b), elementwise, floats in f32. Shapes are equal (broadcast axes have stride 0). Comparisons give u8, 0 or 1.
 * Integers stay integers: add, sub and mul keep the low bits, div truncates (by zero: undefined), pow is for floats.
 */
export interface Binary {
  inputs: { a: View; b: View };
  outputs: { y: View };
  attrs: { op: BinaryOp };
}

export const binary = defineContract<Binary>({
  kind: 'primitive',
  name: 'binary',
  inplace: [
    ['y', 'a'],
    ['y', 'b'],
  ],
  infer: ({ a, b }, { op }) => {
    check(op in binaryOps, 'binary', 'unknown op', op, `Known: ${Object.keys(binaryOps).join(', ')}`);
    const row = binaryOps[op];
    check(a.dtype === b.dtype, op, 'dtypes differ', () => `${describe(a)}, ${describe(b)}`, 'Cast one of them');
    check(sameShape(a.shape, b.shape), op, 'shapes differ', () => `${describe(a)}, ${describe(b)}`);
    check(row.kind !== 'bits' || !isFloat(a.dtype), op, 'needs integers', a.dtype);
    return { y: specOf(a.shape, row.kind === 'compare' ? 'u8' : a.dtype) };
  },
});
