import { defineReference, zeros } from '../common/reference.ts';
import { sizeOf } from '../common/view.ts';
import type { Matmul } from './contract.ts';

export const reference = defineReference<Matmul>(({ a, b, c }, { alpha = 1, beta = 1, dtype }) => {
  const rank = a.shape.length;
  const batch = sizeOf(a.shape.slice(0, -2));
  const [m, k] = a.shape.slice(-2) as [number, number];
  const n = b.shape[rank - 1]!;
  const y = zeros([...a.shape.slice(0, -1), n], dtype ?? (a.dtype as 'f32'));
  for (let s = 0; s < batch; s++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a.data[(s * m + i) * k + l]! * b.data[(s * k + l) * n + j]!;
        const at = (s * m + i) * n + j;
        y.data[at] = alpha * sum + (c ? beta * c.data[at]! : 0);
      }
  return { y };
});
