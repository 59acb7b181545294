import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/** dx = y · (dy − Σ dy·y) over the last axis. */
export interface SoftmaxBackward {
  inputs: { dy: View; y: View };
  outputs: { dx: View };
  attrs: Record<never, never>;
}

export const softmaxBackward = defineContract<SoftmaxBackward>({
  name: 'softmaxBackward',
  inplace: [['dx', 'dy']],
  infer: ({ dy, y }) => {
    check(
      isFloat(y.dtype) && sameShape(dy.shape, y.shape),
      'softmaxBackward',
      'dy and y must have one shape',
      () => `${describe(dy)}, ${describe(y)}`,
    );
    return { dx: specOf(y.shape, dy.dtype) };
  },
});
