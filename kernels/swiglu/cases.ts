import { defineCases, listed, normal, t } from '../common/cases.ts';
import type { Swiglu } from './contract.ts';

export const cases = defineCases<Swiglu>(
  [
    ...[0, 1, 31, 32, 33, 127].map((f) => ({
      name: `width ${f}`,
      inputs: { x: t([3, 2 * f], { values: normal(2) }) },
      attrs: {},
    })),
    { name: 'one axis', inputs: { x: t([66]) }, attrs: {} },
    { name: 'three axes', inputs: { x: t([2, 5, 96]) }, attrs: {} },
    { name: 'no rows', inputs: { x: t([0, 64]) }, attrs: {} },
    { name: 'sliced', inputs: { x: t([5, 62], { layout: 'sliced' }) }, attrs: {}, outputs: { y: 'sliced' } },
    { name: 'window', inputs: { x: t([5, 64], { layout: 'window' }) }, attrs: {}, outputs: { y: 'window' } },
    {
      name: 'large gates',
      dtypes: ['f32', 'bf16'],
      inputs: { x: t([2, 6], { values: listed(-100, 100, -20, 1, 2, 3, 60, -60, 0, -1, 1, 1) }) },
      attrs: {},
    },
    { name: 'many rows', dtypes: ['f32'], inputs: { x: t([67, 3072]) }, attrs: {} },
    {
      name: 'specials',
      inputs: { x: t([1, 10], { values: listed(NaN, 1, Infinity, -Infinity, 1, 1, NaN, 1, 1, Infinity) }) },
      attrs: {},
    },
  ],
  () => ({ rel: 5e-6 }),
);
