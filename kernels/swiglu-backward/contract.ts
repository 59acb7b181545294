import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/** With s = σ(gate): dgate = dy · up · s · (1 + gate · (1 − s)), dup = dy · gate · s; dx […, 2F] holds both. */
export interface SwigluBackward {
  inputs: { dy: View; x: View };
  outputs: { dx: View };
  attrs: Record<never, never>;
}

export const swigluBackward = defineContract<SwigluBackward>({
  name: 'swigluBackward',
  inplace: [['dx', 'x']],
  infer: ({ dy, x }) => {
    check(
      isFloat(x.dtype) && sameShape([...dy.shape.slice(0, -1), 2 * dy.shape[dy.shape.length - 1]!], x.shape),
      'swigluBackward',
      'x must be twice as wide as dy',
      () => `dy ${describe(dy)}, x ${describe(x)}`,
    );
    return { dx: specOf(x.shape, dy.dtype) };
  },
});
