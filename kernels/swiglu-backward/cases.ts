import { defineCases, type Layout, normal, spiked, t } from '../common/cases.ts';
import type { SwigluBackward } from './contract.ts';

const inputs = (rows: readonly number[], f: number, layout: Layout = 'contiguous') => ({
  dy: t([...rows, f], { layout }),
  x: t([...rows, 2 * f], { values: normal(2), layout }),
});

export const cases = defineCases<SwigluBackward>(
  [
    ...[0, 1, 31, 32, 33, 127].map((f) => ({ name: `width ${f}`, inputs: inputs([3], f), attrs: {}, inplace: true })),
    { name: 'one axis', inputs: inputs([], 33), attrs: {} },
    { name: 'three axes', inputs: inputs([2, 5], 48), attrs: {} },
    { name: 'no rows', inputs: inputs([0], 32), attrs: {} },
    { name: 'sliced', inputs: inputs([5], 31, 'sliced'), attrs: {}, outputs: { dx: 'sliced' }, inplace: true },
    {
      name: 'specials',
      inputs: {
        dy: t([3, 32], { values: spiked({ 3: NaN, 40: Infinity }) }),
        x: t([3, 64], { values: spiked({ 5: NaN, 44: NaN }) }),
      },
      attrs: {},
      inplace: true,
    },
    { name: 'many rows', dtypes: ['f32'], inputs: inputs([67], 1536), attrs: {} },
  ],
  // 1 + gate·(1 − σ) crosses zero: an absolute part.
  () => ({ rel: 5e-6, abs: 4e-6 }),
);
