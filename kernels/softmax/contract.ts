import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, specOf, type View } from '../common/view.ts';

/** y = exp(x − max x) / Σ exp(x − max x) over the last axis; f32 inside. A row of −∞ gives NaN. */
export interface Softmax {
  inputs: { x: View };
  outputs: { y: View };
  attrs: Record<never, never>;
}

export const softmax = defineContract<Softmax>({
  name: 'softmax',
  inplace: [['y', 'x']],
  infer: ({ x }) => {
    check(isFloat(x.dtype) && x.shape.length >= 1, 'softmax', 'needs floats and an axis', () => describe(x));
    return { y: specOf(x.shape, x.dtype) };
  },
});
