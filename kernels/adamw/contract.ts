import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * AdamW (Loshchilov and Hutter 2019) as PyTorch orders it, in f32, in place. hyper f32 [4]: lr, weightDecay, 1 − β₁ᵗ, √(1 − β₂ᵗ).
 * g' = g · gradScale[0] (1 where absent); p ← p · (1 − lr·weightDecay); m ← m + (g' − m)(1 − β₁); v ← β₂ v + (1 − β₂) g'²;
 * p ← p − (lr / hyper₂) · m / (√v / hyper₃ + eps). p of any float dtype, g any float dtype, m and v f32.
 */
export interface Adamw {
  inputs: { p: View; g: View; m: View; v: View; hyper: View; gradScale?: View };
  outputs: { p: View; m: View; v: View };
  attrs: { beta1: number; beta2: number; eps: number };
}

export const adamw = defineContract<Adamw>({
  name: 'adamw',
  inplace: [
    ['p', 'p'],
    ['m', 'm'],
    ['v', 'v'],
  ],
  infer: ({ p, g, m, v, hyper }) => {
    check(
      isFloat(p.dtype) && isFloat(g.dtype) && m.dtype === 'f32' && v.dtype === 'f32',
      'adamw',
      'p and g must be floats, m and v f32',
      () => `p ${describe(p)}, g ${describe(g)}, m ${describe(m)}`,
    );
    check(
      [g, m, v].every((x) => sameShape(x.shape, p.shape)),
      'adamw',
      'p, g, m and v must have one shape',
      () => `p ${describe(p)}, g ${describe(g)}, m ${describe(m)}, v ${describe(v)}`,
    );
    check(hyper.dtype === 'f32' && hyper.shape[0] === 4, 'adamw', 'hyper must be f32 [4]', () => describe(hyper));
    return { p: specOf(p.shape, p.dtype), m: specOf(p.shape, 'f32'), v: specOf(p.shape, 'f32') };
  },
});
