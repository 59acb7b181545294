import { defineReference, mapArray } from '../common/reference.ts';
import { sizeOf } from '../common/view.ts';
import type { ScatterAdd } from './contract.ts';

export const reference = defineReference<ScatterAdd>(({ into, ids, x }) => {
  const rows = into.shape[0]!;
  const width = sizeOf(into.shape.slice(1));
  const y = mapArray(into, (v) => v);
  ids.data.forEach((id, i) => {
    if (id < 0 || id >= rows) return;
    for (let j = 0; j < width; j++) y.data[id * width + j]! += x.data[i * width + j]!;
  });
  return { y };
});
