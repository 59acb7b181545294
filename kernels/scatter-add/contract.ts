import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * y = into; y[ids[i…], :] += x[i…, :] for each i in order. ids outside [0, rows) are skipped. Sums in f32, in index order
 * (deterministic), rounded to into's dtype once.
 * `y` is usually `into` itself.
 */
export interface ScatterAdd {
  inputs: { into: View; ids: View; x: View };
  outputs: { y: View };
  attrs: Record<never, never>;
}

export const scatterAdd = defineContract<ScatterAdd>({
  kind: 'primitive',
  name: 'scatterAdd',
  inplace: [['y', 'into']],
  infer: ({ into, ids, x }) => {
    check(ids.dtype === 'i32' || ids.dtype === 'u32', 'scatterAdd', 'ids must be i32 or u32', ids.dtype);
    check(
      isFloat(into.dtype) && isFloat(x.dtype),
      'scatterAdd',
      'needs floats',
      () => `${describe(into)}, ${describe(x)}`,
    );
    check(
      sameShape(x.shape, [...ids.shape, ...into.shape.slice(1)]),
      'scatterAdd',
      'x must have the shape ids + a row of into',
      () => `into ${describe(into)}, ids ${describe(ids)}, x ${describe(x)}`,
    );
    return { y: specOf(into.shape, into.dtype) };
  },
});
