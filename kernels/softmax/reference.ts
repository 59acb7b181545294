import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { Softmax } from './contract.ts';

export const reference = defineReference<Softmax>(({ x }) => {
  const [rows, width] = asRows(x.shape);
  const y = zeros(x.shape, x.dtype);
  for (let r = 0; r < rows; r++) {
    let max = -Infinity;
    for (let j = 0; j < width; j++) max = Math.max(max, x.data[r * width + j]!);
    let sum = 0;
    for (let j = 0; j < width; j++) sum += Math.exp(x.data[r * width + j]! - max);
    for (let j = 0; j < width; j++) y.data[r * width + j] = Math.exp(x.data[r * width + j]! - max) / sum;
  }
  return { y };
});
