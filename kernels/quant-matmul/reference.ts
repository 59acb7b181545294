import { defineReference, zeros } from '../common/reference.ts';
import { dequantized } from '../dequantize/reference.ts';
import type { QuantMatmul } from './contract.ts';

export const reference = defineReference<QuantMatmul>(({ x, weight, c }, attrs) => {
  const [n, k] = attrs.shape as [number, number];
  const w = dequantized(weight, attrs); // [N, K]
  const m = x.shape[0]!;
  const [outer, inner] = attrs.transposed ? [k, n] : [n, k];
  const y = zeros([m, outer], x.dtype);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < outer; j++) {
      let sum = c ? c.data[i * outer + j]! : 0;
      for (let l = 0; l < inner; l++) sum += x.data[i * inner + l]! * w[attrs.transposed ? l * k + j : j * k + l]!;
      y.data[i * outer + j] = sum;
    }
  return { y };
});
