import { castValue } from '../cast/reference.ts';
import { defineReference, zeros } from '../common/reference.ts';
import { sizeOf } from '../common/view.ts';
import type { Gather } from './contract.ts';

export const reference = defineReference<Gather>(({ table, ids }, { dtype }) => {
  const rows = table.shape[0]!;
  const width = sizeOf(table.shape.slice(1));
  const y = zeros([...ids.shape, ...table.shape.slice(1)], dtype ?? table.dtype);
  ids.data.forEach((id, i) => {
    if (id < 0 || id >= rows) return; // zeros
    for (let j = 0; j < width; j++)
      y.data[i * width + j] = castValue(table.data[id * width + j]!, table.dtype, y.dtype);
  });
  return { y };
});
