import { defineCases, listed, of, rowTolerance, t } from '../common/cases.ts';
import type { Dropout } from './contract.ts';

const seed = of('u32', [4], listed(2024, 1, 17, 3));

export const cases = defineCases<Dropout>(
  [
    ...[0, 1, 31, 32, 33, 127].map((n) => ({
      name: `n=${n}`,
      inputs: { x: t([n]), seed },
      attrs: { p: 0.1, site: 4 },
    })),
    { name: 'half', inputs: { x: t([7, 67]), seed }, attrs: { p: 0.5, site: 0 }, inplace: true },
    { name: 'p=0', inputs: { x: t([3, 33]), seed }, attrs: { p: 0, site: 9 } },
    { name: 'p=0.95', inputs: { x: t([3, 333]), seed }, attrs: { p: 0.95, site: 0xffffffff } },
    {
      name: 'sliced',
      inputs: { x: t([5, 31], { layout: 'sliced' }), seed },
      attrs: { p: 0.3, site: 2 },
      outputs: { y: 'sliced' },
    },
    { name: 'transposed', inputs: { x: t([33, 17], { layout: 'transposed' }), seed }, attrs: { p: 0.3, site: 2 } },
    {
      name: 'specials',
      inputs: { x: t([2, 64], { values: listed(NaN, Infinity, -Infinity, 1, 0) }), seed },
      attrs: { p: 0.5, site: 1 },
    },
  ],
  rowTolerance(3e-7),
);
