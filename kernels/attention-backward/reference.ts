import { visibleKeys } from '../attention/reference.ts';
import { defineReference, zeros } from '../common/reference.ts';
import type { AttentionBackward } from './contract.ts';

export const reference = defineReference<AttentionBackward>((inputs, { scale, causal }) => {
  const { dy, q, k, v, y, lse } = inputs;
  const [b, tq, hq, d] = q.shape as [number, number, number, number];
  const [, tk, hkv] = k.shape as [number, number, number, number];
  const dq = zeros(q.shape, q.dtype);
  const dk = zeros(k.shape, k.dtype);
  const dv = zeros(v.shape, v.dtype);
  for (let s = 0; s < b; s++)
    for (let h = 0; h < hq; h++)
      for (let i = 0; i < tq; i++) {
        const group = Math.floor((h * hkv) / hq);
        const query = ((s * tq + i) * hq + h) * d;
        const [from, to] = visibleKeys(inputs, causal, s, i);
        let delta = 0;
        for (let e = 0; e < d; e++) delta += dy.data[query + e]! * y.data[query + e]!;
        for (let j = from; j < to; j++) {
          const key = ((s * tk + j) * hkv + group) * d;
          let score = 0;
          let dp = 0;
          for (let e = 0; e < d; e++) {
            score += q.data[query + e]! * k.data[key + e]!;
            dp += dy.data[query + e]! * v.data[key + e]!;
          }
          const p = Math.exp(scale * score - lse.data[(s * hq + h) * tq + i]!);
          const ds = p * (dp - delta);
          for (let e = 0; e < d; e++) {
            dv.data[key + e]! += p * dy.data[query + e]!;
            dq.data[query + e]! += scale * ds * k.data[key + e]!;
            dk.data[key + e]! += scale * ds * q.data[query + e]!;
          }
        }
      }
  return { dq, dk, dv };
});
