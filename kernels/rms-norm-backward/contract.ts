import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * With x̂ = x·rstd and g = dy·weight: dx = rstd · (g − x̂ · mean(g·x̂)); dweight = Σ rows dy·x̂ (f32, only if needWeight).
 */
export interface RmsNormBackward {
  inputs: { dy: View; x: View; weight: View; rstd: View };
  outputs: { dx: View; dweight?: View };
  attrs: { needWeight: boolean };
}

export const rmsNormBackward = defineContract<RmsNormBackward>({
  name: 'rmsNormBackward',
  inplace: [['dx', 'dy']],
  infer: ({ dy, x, weight, rstd }, { needWeight }) => {
    check(
      isFloat(x.dtype) &&
        sameShape(dy.shape, x.shape) &&
        sameShape(weight.shape, x.shape.slice(-1)) &&
        sameShape(rstd.shape, x.shape.slice(0, -1)),
      'rmsNormBackward',
      'shapes do not fit',
      () => `dy ${describe(dy)}, x ${describe(x)}, weight ${describe(weight)}, rstd ${describe(rstd)}`,
    );
    return { dx: specOf(x.shape, dy.dtype), dweight: needWeight ? specOf(weight.shape, 'f32') : undefined };
  },
});
