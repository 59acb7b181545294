import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { RmsNormBackward } from './contract.ts';

export const reference = defineReference<RmsNormBackward>(({ dy, x, weight, rstd }, { needWeight }) => {
  const [rows, d] = asRows(x.shape);
  const dx = zeros(x.shape, dy.dtype);
  const dweight = zeros(weight.shape, 'f32');
  for (let r = 0; r < rows; r++) {
    const s = rstd.data[r]!;
    let dot = 0; // Σ g·x̂
    for (let j = 0; j < d; j++) dot += dy.data[r * d + j]! * weight.data[j]! * x.data[r * d + j]! * s;
    for (let j = 0; j < d; j++) {
      const xhat = x.data[r * d + j]! * s;
      dx.data[r * d + j] = s * (dy.data[r * d + j]! * weight.data[j]! - (xhat * dot) / d);
      dweight.data[j]! += dy.data[r * d + j]! * xhat;
    }
  }
  return { dx, dweight: needWeight ? dweight : undefined };
});
