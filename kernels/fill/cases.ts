import { defineCases } from '../common/cases.ts';
import { type DType, dtypes, floatDTypes } from '../common/dtype.ts';
import type { Fill } from './contract.ts';

const fill = (shape: readonly number[], value: number) => (dtype: DType) => ({ shape, dtype, value });
const shaped = (shape: readonly number[], value: number, on: readonly DType[]) => ({
  name: `[${shape}] = ${Object.is(value, -0) ? '-0' : value}`,
  dtypes: on,
  inputs: {},
  attrs: fill(shape, value),
});

export const cases = defineCases<Fill>([
  ...[0, 1, 31, 32, 33, 127].map((n) => shaped([n], 7, ['f32', 'f16', 'u8'])),
  shaped([], 3, dtypes),
  shaped([3, 67], 5, dtypes),
  shaped([3, 1021], 0, dtypes),
  shaped([5, 7], -1.75, [...floatDTypes, 'i32']),
  shaped([2, 3, 5], 0.1, floatDTypes),
  shaped([4], NaN, floatDTypes),
  shaped([4], -Infinity, floatDTypes),
  shaped([4], -0, floatDTypes),
  shaped([33], 4294967295, ['u32']),
  shaped([33], 16777217, ['i32', 'u32']),
  shaped([33], -2147483648, ['i32']),
  { ...shaped([5, 31], 2, dtypes), name: 'sliced', outputs: { y: 'sliced' } },
  { ...shaped([5, 32], 2, dtypes), name: 'window', outputs: { y: 'window' } },
  { ...shaped([67], 2, dtypes), name: 'stepped', outputs: { y: 'stepped' } },
  { ...shaped([7, 9], 2, ['f32', 'u8']), name: 'transposed', outputs: { y: 'transposed' } },
]);
