import { cast, defineFused, reshape, slice, type Tensor } from '@lowrank/tensor';

/** One number of `hyper`, so that it broadcasts over anything. */
const at = (hyper: Tensor, i: number) => reshape(slice(hyper, 0, i, i + 1), []);

/**
 * AdamW as PyTorch orders it (kernels/adamw): p ← p·(1 − lr·λ); m ← m + (g − m)(1 − β₁); v ← β₂·v + (1 − β₂)·g²;
 * p ← p − (lr / (1 − β₁ᵗ)) · m / (√v / √(1 − β₂ᵗ) + eps). `hyper` f32 [4]: lr, λ, 1 − β₁ᵗ, √(1 − β₂ᵗ).
 */
export const adamw = defineFused({
  name: 'adamw',
  cost: 'cheap',
  decompose: ({ p, g, m, v, hyper, gradScale }, { beta1, beta2, eps }) => {
    const g32 = cast(g, 'f32');
    const grad = gradScale ? g32.mul(reshape(gradScale, [])) : g32;
    const lr = at(hyper, 0);
    const m1 = m.add(grad.sub(m).mul(1 - beta1));
    const v1 = v.mul(beta2).add(grad.square().mul(1 - beta2));
    const decayed = cast(p, 'f32').mul(lr.mul(at(hyper, 1)).affine(-1, 1));
    const update = m1.div(v1.unary('sqrt').div(at(hyper, 3)).add(eps)).mul(lr.div(at(hyper, 2)));
    return { p: cast(decayed.sub(update), p.dtype), m: m1, v: v1 };
  },
  rule: 'none',
});
