import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type TensorSpec, type View } from '../common/view.ts';

/**
 * Scaled dot-product attention that never stores the score matrix (Dao et al. 2022). q [B, Tq, Hq, D]; k, v [B, Tk, Hkv, D], Hq a multiple
 * of Hkv (query head h reads key head ⌊h · Hkv / Hq⌋). Query i sees keys j with starts[b,i] ≤ j < ends[b,i]; starts is 0 where absent,
 * ends is Tk; `causal` also asks j ≤ i + Tk − Tq. This covers packing (starts), sliding windows (starts), and padding (ends).
 * y [B, Tq, Hq, D] = softmax(scale · q·kᵀ) v; lse f32 [B, Hq, Tq] = ln Σ exp(scale · q·k). A query that sees no key gives y = 0, lse = −∞.
 */
export interface Attention {
  inputs: { q: View; k: View; v: View; starts?: View; ends?: View };
  outputs: { y: View; lse: View };
  attrs: { scale: number; causal: boolean };
}

/** Shared by forward and backward. */
export function checkAttention(
  op: string,
  {
    q,
    k,
    v,
    starts,
    ends,
  }: { q: TensorSpec; k: TensorSpec; v: TensorSpec; starts?: TensorSpec | undefined; ends?: TensorSpec | undefined },
): void {
  const facts = () => `q ${describe(q)}, k ${describe(k)}, v ${describe(v)}`;
  check(
    isFloat(q.dtype) && q.dtype === k.dtype && q.dtype === v.dtype,
    op,
    'q, k and v must be floats of one dtype',
    facts,
  );
  check(
    q.shape.length === 4 && k.shape.length === 4 && sameShape(k.shape, v.shape),
    op,
    'q must be [B, Tq, Hq, D], k and v [B, Tk, Hkv, D]',
    facts,
  );
  check(q.shape[0] === k.shape[0] && q.shape[3] === k.shape[3], op, 'batch or head width differ', facts);
  check(k.shape[2]! > 0 && q.shape[2]! % k.shape[2]! === 0, op, 'query heads must be a multiple of key heads', facts);
  for (const [name, x] of [
    ['starts', starts],
    ['ends', ends],
  ] as const)
    check(
      !x || (x.dtype === 'i32' && sameShape(x.shape, q.shape.slice(0, 2))),
      op,
      `${name} must be i32 [B, Tq]`,
      () => (x ? describe(x) : ''),
    );
}

export const attention = defineContract<Attention>({
  name: 'attention',
  infer: (inputs) => {
    checkAttention('attention', inputs);
    const { q } = inputs;
    return { y: specOf(q.shape, q.dtype), lse: specOf([q.shape[0]!, q.shape[2]!, q.shape[1]!], 'f32') };
  },
});
