import { defineContract } from '../common/contract.ts';
import type { DType } from '../common/dtype.ts';
import { specOf, type View } from '../common/view.ts';

/**
 * y = x in another dtype. Float to float rounds to nearest, ties to even (overflow gives infinity; NaN stays NaN);
 * float to integer truncates toward zero and saturates (NaN gives 0); integer to integer keeps the low bits; integer to float rounds to
 * f32, then to y's dtype.
 */
export interface Cast {
  inputs: { x: View };
  outputs: { y: View };
  attrs: { dtype: DType };
}

export const cast = defineContract<Cast>({
  kind: 'primitive',
  name: 'cast',
  infer: ({ x }, { dtype }) => ({ y: specOf(x.shape, dtype) }),
});
