import type { DType } from '../common/dtype.ts';
import { isFloat } from '../common/dtype.ts';
import { roundTo } from '../common/half.ts';
import { defineReference, mapArray } from '../common/reference.ts';
import type { Cast } from './contract.ts';

const range: Readonly<Record<'i32' | 'u32' | 'u8', readonly [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
  u8: [0, 255],
};

/** One number in another dtype. */
export function castValue(x: number, from: DType, to: DType): number {
  if (to === 'f32' || to === 'f16' || to === 'bf16') return roundTo(x, to); // integers through f32
  if (!isFloat(from)) return roundTo(x, to); // low bits
  if (x !== x) return 0;
  const [low, high] = range[to];
  return Math.min(Math.max(Math.trunc(x), low), high) + 0; // + 0 makes −0 a 0
}

export const reference = defineReference<Cast>(({ x }, { dtype }) => ({
  y: mapArray(x, (v) => castValue(v, x.dtype, dtype), dtype),
}));
