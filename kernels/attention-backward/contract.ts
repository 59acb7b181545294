import { checkAttention } from '../attention/contract.ts';
import { defineContract } from '../common/contract.ts';
import { check } from '../common/error.ts';
import { sameShape, specOf, type View } from '../common/view.ts';

/**
 * With P = exp(scale·q·kᵀ − lse) and Δ = Σ_D dy·y: dv = Pᵀ dy, dS = P ∘ (dy·vᵀ − Δ), dq = scale · dS k, dk = scale · dSᵀ q.
 * P is made again tile by tile. dk and dv sum over the query heads of a group. Deterministic.
 */
export interface AttentionBackward {
  inputs: { dy: View; q: View; k: View; v: View; y: View; lse: View; starts?: View; ends?: View };
  outputs: { dq: View; dk: View; dv: View };
  attrs: { scale: number; causal: boolean };
}

export const attentionBackward = defineContract<AttentionBackward>({
  name: 'attentionBackward',
  infer: (inputs) => {
    checkAttention('attentionBackward', inputs);
    const { q, k, v, dy, y } = inputs;
    check(
      sameShape(dy.shape, q.shape) && sameShape(y.shape, q.shape),
      'attentionBackward',
      'dy and y must have the shape of q',
    );
    return { dq: specOf(q.shape, q.dtype), dk: specOf(k.shape, k.dtype), dv: specOf(v.shape, v.dtype) };
  },
});
