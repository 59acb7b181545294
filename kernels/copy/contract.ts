import { defineContract } from '../common/contract.ts';
import { specOf, type View } from '../common/view.ts';

/** y = x, from any strides to any strides. */
export interface Copy {
  inputs: { x: View };
  outputs: { y: View };
  attrs: Record<never, never>;
}

export const copy = defineContract<Copy>({
  kind: 'primitive',
  name: 'copy',
  infer: ({ x }) => ({ y: specOf(x.shape, x.dtype) }),
});
