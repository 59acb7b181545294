import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { checkQuant, type QuantAttrs, type QuantViews } from '../common/quant.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * Product with a blockwise-quantized weight W [N, K] (`shape`): forward y [M, N] = x [M, K] · Wᵀ; with `transposed` y [M, K] = x [M, N] · W,
 * the backward pass for x. `c`, of y's shape (a row bias has stride 0 over M), is added. f32 sums; y of x's dtype.
 */
export interface QuantMatmul {
  inputs: { x: View; weight: QuantViews; c?: View };
  outputs: { y: View };
  attrs: QuantAttrs & { transposed: boolean };
}

export const quantMatmul = defineContract<QuantMatmul>({
  name: 'quantMatmul',
  inplace: [['y', 'c']],
  infer: ({ x, weight, c }, attrs) => {
    checkQuant('quantMatmul', weight, attrs);
    const [n, k] = attrs.shape as [number, number];
    const [inner, outer] = attrs.transposed ? [n, k] : [k, n];
    check(
      attrs.shape.length === 2 && isFloat(x.dtype) && x.shape.length === 2 && x.shape[1] === inner,
      'quantMatmul',
      'x must be floats [M, inner]',
      () => `x ${describe(x)}, weight [${attrs.shape}]${attrs.transposed ? ', transposed' : ''}`,
    );
    const y = specOf([x.shape[0]!, outer], x.dtype);
    check(!c || sameShape(c.shape, y.shape), 'quantMatmul', 'c must have the shape of y');
    return { y };
  },
});
