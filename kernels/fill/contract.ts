import { defineContract } from '../common/contract.ts';
import type { DType } from '../common/dtype.ts';
import { specOf, type View } from '../common/view.ts';

/** y = value, everywhere. Integers take the value truncated toward zero. */
export interface Fill {
  inputs: Record<never, never>;
  outputs: { y: View };
  attrs: { shape: readonly number[]; dtype: DType; value: number };
}

export const fill = defineContract<Fill>({
  kind: 'primitive',
  name: 'fill',
  infer: (_, { shape, dtype }) => ({ y: specOf(shape, dtype) }),
});
