import { isFloat } from '../common/dtype.ts';
import { roundTo } from '../common/half.ts';
import { defineReference, eachIndex, zeros } from '../common/reference.ts';
import type { Iota } from './contract.ts';

export const reference = defineReference<Iota>((_, { shape, dtype, axis, start, step }) => {
  const y = zeros(shape, dtype);
  eachIndex(shape, (index, i) => {
    const v = start + step * index[axis]!;
    y.data[i] = isFloat(dtype) ? v : roundTo(Math.trunc(v), dtype);
  });
  return { y };
});
