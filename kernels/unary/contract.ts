import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { specOf, type View } from '../common/view.ts';
import { type UnaryOp, unaryOps } from './table.ts';

/**
 * y = op(x), elementwise, computed in f32. `p` and `q` are the parameters of the rows that have them (`affine`: p·x + q).
 * Integers pass through f32, so they are exact below 2²⁴, and come back as by `cast`.
 */
export interface Unary {
  inputs: { x: View };
  outputs: { y: View };
  attrs: { op: UnaryOp; p?: number; q?: number };
}

export const unary = defineContract<Unary>({
  kind: 'primitive',
  name: 'unary',
  inplace: [['y', 'x']],
  infer: ({ x }, { op }) => {
    check(op in unaryOps, 'unary', 'unknown op', op, `Known: ${Object.keys(unaryOps).join(', ')}`);
    check(isFloat(x.dtype) || unaryOps[op].integers, `unary ${op}`, 'needs floats', x.dtype);
    return { y: specOf(x.shape, x.dtype) };
  },
});
