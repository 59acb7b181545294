import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, specOf, type View } from '../common/view.ts';

/** Gated unit (Shazeer 2020): x […, 2F] holds gate and up side by side; y […, F] = silu(gate) · up, silu(g) = g/(1+e⁻ᵍ). */
export interface Swiglu {
  inputs: { x: View };
  outputs: { y: View };
  attrs: Record<never, never>;
}

export const swiglu = defineContract<Swiglu>({
  name: 'swiglu',
  infer: ({ x }) => {
    const last = x.shape[x.shape.length - 1];
    check(
      isFloat(x.dtype) && last !== undefined && last % 2 === 0,
      'swiglu',
      'x must be floats with an even last axis',
      () => describe(x),
    );
    return { y: specOf([...x.shape.slice(0, -1), last / 2], x.dtype) };
  },
});
