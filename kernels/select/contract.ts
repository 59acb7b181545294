import { defineContract } from '../common/contract.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/** y = cond ≠ 0 ? a : b, elementwise; `cond` u8. */
export interface Select {
  inputs: { cond: View; a: View; b: View };
  outputs: { y: View };
  attrs: Record<never, never>;
}

export const select = defineContract<Select>({
  kind: 'primitive',
  name: 'select',
  inplace: [
    ['y', 'a'],
    ['y', 'b'],
  ],
  infer: ({ cond, a, b }) => {
    check(cond.dtype === 'u8', 'select', 'cond must be u8', cond.dtype);
    check(a.dtype === b.dtype, 'select', 'dtypes differ', () => `${describe(a)}, ${describe(b)}`);
    check(
      sameShape(a.shape, b.shape) && sameShape(a.shape, cond.shape),
      'select',
      'shapes differ',
      () => `${describe(cond)}, ${describe(a)}, ${describe(b)}`,
    );
    return { y: specOf(a.shape, a.dtype) };
  },
});
