import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { SwigluBackward } from './contract.ts';

export const reference = defineReference<SwigluBackward>(({ dy, x }) => {
  const [rows, width] = asRows(x.shape);
  const f = width / 2;
  const dx = zeros(x.shape, dy.dtype);
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < f; j++) {
      const gate = x.data[r * width + j]!;
      const up = x.data[r * width + f + j]!;
      const g = dy.data[r * f + j]!;
      const s = 1 / (1 + Math.exp(-gate));
      dx.data[r * width + j] = g * up * s * (1 + gate * (1 - s));
      dx.data[r * width + f + j] = g * gate * s;
    }
  return { dx };
});
