import { asRows, defineReference, zeros } from '../common/reference.ts';
import type { SoftmaxBackward } from './contract.ts';

export const reference = defineReference<SoftmaxBackward>(({ dy, y }) => {
  const [rows, width] = asRows(y.shape);
  const dx = zeros(y.shape, dy.dtype);
  for (let r = 0; r < rows; r++) {
    let dot = 0;
    for (let j = 0; j < width; j++) dot += dy.data[r * width + j]! * y.data[r * width + j]!;
    for (let j = 0; j < width; j++) dx.data[r * width + j] = y.data[r * width + j]! * (dy.data[r * width + j]! - dot);
  }
  return { dx };
});
