import { defineCases, integers, listed, normal, of, t } from '../common/cases.ts';
import { dtypes } from '../common/dtype.ts';
import type { Select } from './contract.ts';

const cond = (shape: readonly number[], layout: Parameters<typeof of>[3] = 'contiguous') =>
  of('u8', shape, listed(1, 0, 0, 255, 2, 0, 1), layout);
const values = normal(50);

export const cases = defineCases<Select>([
  ...[0, 1, 31, 32, 33, 127, 1021].map((n) => ({
    name: `n=${n}`,
    dtypes: ['f32', 'bf16'] as const,
    inputs: { cond: cond([n]), a: t([n]), b: t([n]) },
    attrs: {},
  })),
  {
    name: 'rows',
    dtypes,
    inputs: { cond: cond([5, 33]), a: t([5, 33], { values }), b: t([5, 33], { values }) },
    attrs: {},
    inplace: true,
  },
  { name: 'scalars', inputs: { cond: cond([]), a: t([]), b: t([]) }, attrs: {} },
  {
    name: 'sliced',
    dtypes,
    inputs: {
      cond: cond([5, 31], 'sliced'),
      a: t([5, 31], { values, layout: 'transposed' }),
      b: t([5, 31], { values, layout: 'sliced' }),
    },
    attrs: {},
    outputs: { y: 'sliced' },
  },
  {
    name: 'broadcast',
    inputs: {
      cond: of('u8', [7, 33], integers(0, 2), { broadcast: [0] }),
      a: t([7, 33], { layout: { broadcast: [1] } }),
      b: t([7, 33], { layout: { broadcast: [0, 1] } }),
    },
    attrs: {},
  },
  {
    name: 'specials',
    inputs: {
      cond: cond([12]),
      a: t([12], { values: listed(NaN, Infinity, -0) }),
      b: t([12], { values: listed(-Infinity, NaN, 0, 1) }),
    },
    attrs: {},
  },
]);
