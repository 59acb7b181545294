import { castValue } from '../cast/reference.ts';
import { isFloat } from '../common/dtype.ts';
import { defineReference, mapArray, zeros } from '../common/reference.ts';
import type { Fill } from './contract.ts';

export const reference = defineReference<Fill>((_, { shape, dtype, value }) => {
  const v = isFloat(dtype) ? value : castValue(value, 'f32', dtype);
  return { y: mapArray(zeros(shape, dtype), () => v) };
});
