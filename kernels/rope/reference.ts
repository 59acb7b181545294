import { defineReference, mapArray } from '../common/reference.ts';
import type { Rope } from './contract.ts';

export const reference = defineReference<Rope>(({ x, cos, sin, positions }, { inverse, heads: turned }) => {
  const [b, t, heads, d] = x.shape as [number, number, number, number];
  const half = cos.shape[1]!;
  const y = mapArray(x, (v) => v);
  for (let token = 0; token < b * t; token++) {
    const row = positions.data[token]! * half;
    for (let h = 0; h < (turned ?? heads); h++) {
      const at = (token * heads + h) * d;
      for (let i = 0; i < half; i++) {
        const c = cos.data[row + i]!;
        const s = inverse ? -sin.data[row + i]! : sin.data[row + i]!;
        const u = x.data[at + i]!;
        const v = x.data[at + i + half]!;
        y.data[at + i] = u * c - v * s;
        y.data[at + i + half] = v * c + u * s;
      }
    }
  }
  return { y };
});
