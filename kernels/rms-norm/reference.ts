import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { RmsNorm } from './contract.ts';

export const reference = defineReference<RmsNorm>(({ x, weight }, { eps }) => {
  const [rows, d] = asRows(x.shape);
  const y = zeros(x.shape, x.dtype);
  const rstd = zeros(x.shape.slice(0, -1), 'f32');
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let j = 0; j < d; j++) sum += x.data[r * d + j]! ** 2;
    const s = 1 / Math.sqrt(sum / d + eps);
    rstd.data[r] = s;
    for (let j = 0; j < d; j++) y.data[r * d + j] = x.data[r * d + j]! * s * weight.data[j]!;
  }
  return { y, rstd };
});
