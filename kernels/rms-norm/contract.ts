import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * Root mean square norm (Zhang and Sennrich 2019): rstd = 1/√(mean(x²) + eps) over the last axis, y = x · rstd · weight.
 * x […, D], weight [D]; f32 inside; y of x's dtype; rstd f32 […] is kept for the backward pass.
 */
export interface RmsNorm {
  inputs: { x: View; weight: View };
  outputs: { y: View; rstd: View };
  attrs: { eps: number };
}

export const rmsNorm = defineContract<RmsNorm>({
  name: 'rmsNorm',
  inplace: [['y', 'x']],
  infer: ({ x, weight }) => {
    check(
      isFloat(x.dtype) && isFloat(weight.dtype),
      'rmsNorm',
      'needs floats',
      () => `x ${describe(x)}, weight ${describe(weight)}`,
    );
    check(
      x.shape.length >= 1 && sameShape(weight.shape, x.shape.slice(-1)),
      'rmsNorm',
      'weight must have the last axis of x',
      () => `x ${describe(x)}, weight ${describe(weight)}`,
    );
    return { y: specOf(x.shape, x.dtype), rstd: specOf(x.shape.slice(0, -1), 'f32') };
  },
});
