import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { Swiglu } from './contract.ts';

export const reference = defineReference<Swiglu>(({ x }) => {
  const [rows, width] = asRows(x.shape);
  const f = width / 2;
  const y = zeros([...x.shape.slice(0, -1), f], x.dtype);
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < f; j++) {
      const gate = x.data[r * width + j]!;
      const up = x.data[r * width + f + j]!;
      y.data[r * f + j] = (gate / (1 + Math.exp(-gate))) * up;
    }
  return { y };
});
