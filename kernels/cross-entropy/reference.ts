import { defineReference, zeros } from '../common/reference.ts';
import type { CrossEntropy } from './contract.ts';

export const reference = defineReference<CrossEntropy>(({ logits, labels, scale }, { gradient }) => {
  const [n, v] = logits.shape as [number, number];
  const loss = zeros([n], 'f32');
  const dlogits = zeros([n, v], logits.dtype);
  const by = scale ? scale.data[0]! : 1;
  for (let i = 0; i < n; i++) {
    const label = labels.data[i]!;
    if (label === -100) continue; // loss and gradient stay 0
    const row = logits.data.subarray(i * v, (i + 1) * v);
    let max = -Infinity;
    for (const x of row) max = Math.max(max, x);
    let sum = 0;
    for (const x of row) sum += Math.exp(x - max);
    const lse = max + Math.log(sum);
    loss.data[i] = lse - row[label]!;
    row.forEach((x, j) => {
      dlogits.data[i * v + j] = by * (Math.exp(x - lse) - (j === label ? 1 : 0));
    });
  }
  return { loss, dlogits: gradient ? dlogits : undefined };
});
