import { defineCases, listed, normal, t, uniform } from '../common/cases.ts';
import type { Softmax } from './contract.ts';

export const cases = defineCases<Softmax>(
  [
    ...[1, 31, 32, 33, 67, 127, 1021].map((n) => ({
      name: `width ${n}`,
      inputs: { x: t([3, n], { values: normal(3) }) },
      attrs: {},
    })),
    { name: 'no rows', inputs: { x: t([0, 33]) }, attrs: {} },
    { name: 'no columns', inputs: { x: t([3, 0]) }, attrs: {} },
    { name: 'one axis', inputs: { x: t([65]) }, attrs: {}, inplace: true },
    { name: 'four axes', inputs: { x: t([2, 3, 5, 33], { values: normal(2) }) }, attrs: {}, inplace: true },
    {
      name: 'large numbers',
      dtypes: ['f32', 'bf16'],
      inputs: { x: t([5, 33], { values: uniform(9e3, 9.01e3) }) },
      attrs: {},
    },
    {
      name: 'sliced',
      inputs: { x: t([7, 31], { layout: 'sliced' }) },
      attrs: {},
      outputs: { y: 'sliced' },
      inplace: true,
    },
    { name: 'window', inputs: { x: t([7, 32], { layout: 'window' }) }, attrs: {}, outputs: { y: 'window' } },
    { name: 'transposed', inputs: { x: t([33, 17], { layout: 'transposed' }) }, attrs: {} },
    { name: 'many rows', dtypes: ['f32'], inputs: { x: t([257, 130]) }, attrs: {} },
    {
      name: 'specials',
      inputs: {
        x: t([5, 4], {
          values: listed(
            -Infinity,
            1,
            2,
            -Infinity,
            -Infinity,
            -Infinity,
            -Infinity,
            -Infinity,
            Infinity,
            1,
            2,
            3,
            NaN,
            1,
            2,
            3,
            0,
            -1e4,
            0,
            1,
          ),
        }),
      },
      attrs: {},
    },
  ],
  () => ({ rel: 1e-5 }),
);
