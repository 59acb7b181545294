import { defineCases, integers, listed, of, rowTolerance, spiked, t } from '../common/cases.ts';
import type { ScatterAdd } from './contract.ts';

export const cases = defineCases<ScatterAdd>(
  [
    ...[0, 1, 31, 33, 127].map((n) => ({
      name: `${n} rows`,
      inputs: { into: t([7, 33]), ids: of('i32', [n], integers(0, 7)), x: t([n, 33]) },
      attrs: {},
      inplace: true,
    })),
    {
      name: 'rows by rows',
      inputs: { into: t([13, 31]), ids: of('u32', [3, 5], integers(0, 13)), x: t([3, 5, 31]) },
      attrs: {},
    },
    {
      name: 'numbers',
      inputs: { into: t([16]), ids: of('i32', [67], integers(0, 16)), x: t([67]) },
      attrs: {},
      inplace: true,
    },
    {
      name: 'outside',
      inputs: { into: t([5, 33]), ids: of('i32', [5], listed(-1, 4, 5, 4, 2147483647)), x: t([5, 33]) },
      attrs: {},
      inplace: true,
    },
    {
      name: 'every row the same',
      inputs: { into: t([3, 65]), ids: of('i32', [64], listed(1)), x: t([64, 65]) },
      attrs: {},
      inplace: true,
    },
    {
      name: 'specials',
      inputs: {
        into: t([5, 33], { values: spiked({ 40: Infinity, 70: NaN }) }),
        ids: of('i32', [4], listed(0, 1, 1, 3)),
        x: t([4, 33], { values: spiked({ 3: NaN, 40: -Infinity, 110: Infinity }) }),
      },
      attrs: {},
      inplace: true,
    },
    {
      name: 'sliced',
      inputs: {
        into: t([7, 31], { layout: 'sliced' }),
        ids: of('i32', [9], integers(0, 7), 'stepped'),
        x: t([9, 31], { layout: 'transposed' }),
      },
      attrs: {},
      outputs: { y: 'sliced' },
      inplace: true,
    },
    {
      name: 'f32 rows into T',
      inputs: { into: t([7, 33]), ids: of('i32', [31], integers(0, 7)), x: of('f32', [31, 33]) },
      attrs: {},
    },
    {
      name: 'T rows into f32',
      inputs: { into: of('f32', [7, 33]), ids: of('i32', [31], integers(0, 7)), x: t([31, 33]) },
      attrs: {},
      inplace: true,
    },
    {
      name: 'broadcast rows',
      inputs: { into: t([7, 33]), ids: of('i32', [5], integers(0, 7)), x: t([5, 33], { layout: { broadcast: [0] } }) },
      attrs: {},
    },
    {
      name: 'wide',
      dtypes: ['f32'],
      inputs: { into: t([67, 576]), ids: of('i32', [257], integers(0, 67)), x: t([257, 576]) },
      attrs: {},
    },
  ],
  rowTolerance(2e-6),
);
