import { defineReference, type RefArray, zeros } from '../common/reference.ts';
import type { Attention } from './contract.ts';

/** The first key that query (batch s, position i) sees, and one past the last. */
export function visibleKeys(
  { q, k, starts, ends }: { q: RefArray; k: RefArray; starts?: RefArray | undefined; ends?: RefArray | undefined },
  causal: boolean,
  s: number,
  i: number,
): readonly [from: number, to: number] {
  const tq = q.shape[1]!;
  const tk = k.shape[1]!;
  const from = Math.max(0, starts ? starts.data[s * tq + i]! : 0);
  const to = Math.min(tk, ends ? ends.data[s * tq + i]! : tk, causal ? i + tk - tq + 1 : tk);
  return [from, to];
}

export const reference = defineReference<Attention>((inputs, { scale, causal }) => {
  const { q, k, v } = inputs;
  const [b, tq, hq, d] = q.shape as [number, number, number, number];
  const [, tk, hkv] = k.shape as [number, number, number, number];
  const y = zeros(q.shape, q.dtype);
  const lse = zeros([b, hq, tq], 'f32');
  for (let s = 0; s < b; s++)
    for (let h = 0; h < hq; h++)
      for (let i = 0; i < tq; i++) {
        const group = Math.floor((h * hkv) / hq);
        const [from, to] = visibleKeys(inputs, causal, s, i);
        const scores: number[] = [];
        for (let j = from; j < to; j++) {
          let dot = 0;
          for (let e = 0; e < d; e++)
            dot += q.data[((s * tq + i) * hq + h) * d + e]! * k.data[((s * tk + j) * hkv + group) * d + e]!;
          scores.push(scale * dot);
        }
        const max = scores.reduce((p, x) => Math.max(p, x), -Infinity);
        const sum = scores.reduce((p, x) => p + Math.exp(x - max), 0);
        lse.data[(s * hq + h) * tq + i] = scores.length ? max + Math.log(sum) : -Infinity;
        scores.forEach((x, at) => {
          const weight = Math.exp(x - max) / sum;
          for (let e = 0; e < d; e++)
            y.data[((s * tq + i) * hq + h) * d + e]! += weight * v.data[((s * tk + from + at) * hkv + group) * d + e]!;
        });
      }
  return { y, lse };
});
