import { defineReference, mapArray } from '../common/reference.ts';
import type { Select } from './contract.ts';

export const reference = defineReference<Select>(({ cond, a, b }) => ({
  y: mapArray(a, (v, i) => (cond.data[i] !== 0 ? v : b.data[i]!)),
}));
