import { defineCases } from '../common/cases.ts';
import { type DType, dtypes } from '../common/dtype.ts';
import type { Iota } from './contract.ts';

const iota =
  (shape: readonly number[], axis = 0, start = 0, step = 1) =>
  (dtype: DType) => ({ shape, dtype, axis, start, step });

export const cases = defineCases<Iota>(
  [
    ...[0, 1, 31, 32, 33, 127].map((n) => ({
      name: `n=${n}`,
      dtypes: n === 33 ? dtypes : (['f32', 'i32'] as const),
      inputs: {},
      attrs: iota([n]),
    })),
    { name: 'along columns', dtypes, inputs: {}, attrs: iota([3, 67], 1) },
    { name: 'along rows', dtypes: ['f32', 'i32'], inputs: {}, attrs: iota([67, 3], 0) },
    { name: 'middle axis', dtypes: ['f32', 'u32'], inputs: {}, attrs: iota([2, 5, 3], 1, 4, 2) },
    { name: 'down', dtypes: ['f32', 'i32'], inputs: {}, attrs: iota([31], 0, 10, -3) },
    { name: 'fractions', dtypes: ['f32'], inputs: {}, attrs: iota([67], 0, -1, 0.125) },
    { name: 'beyond 2^24', dtypes: ['i32', 'u32'], inputs: {}, attrs: iota([67], 0, 16777217, 2) },
    { name: 'sliced', dtypes: ['f32', 'i32'], inputs: {}, attrs: iota([5, 31], 1), outputs: { y: 'sliced' } },
  ],
  (t) => (t === 'f32' ? { rel: 2e-7 } : 'exact'),
);
