import { defineCases, listed, normal, of, t } from '../common/cases.ts';
import type { RmsNorm } from './contract.ts';

const attrs = { eps: 1e-5 };
const weight = normal(0.3, 1);

export const cases = defineCases<RmsNorm>(
  [
    ...[1, 31, 32, 33, 67, 127, 576, 1021].map((d) => ({
      name: `width ${d}`,
      inputs: { x: t([5, d]), weight: t([d], { values: weight }) },
      attrs,
      inplace: d === 576,
    })),
    { name: 'one row', inputs: { x: t([64]), weight: t([64], { values: weight }) }, attrs },
    { name: 'no rows', inputs: { x: t([0, 64]), weight: t([64], { values: weight }) }, attrs },
    {
      name: 'three axes',
      inputs: { x: t([2, 7, 96], { values: normal(20) }), weight: t([96], { values: weight }) },
      attrs: { eps: 1e-6 },
      inplace: true,
    },
    { name: 'f32 weight', dtypes: ['f16', 'bf16'], inputs: { x: t([5, 64]), weight: of('f32', [64], weight) }, attrs },
    {
      name: 'sliced',
      inputs: { x: t([5, 31], { layout: 'sliced' }), weight: t([31], { layout: 'offset' }) },
      attrs,
      outputs: { y: 'sliced' },
    },
    {
      name: 'small numbers',
      dtypes: ['f32', 'bf16'],
      inputs: { x: t([3, 33], { values: normal(1e-4) }), weight: t([33], { values: weight }) },
      attrs,
    },
    { name: 'zeros', inputs: { x: t([3, 33], { values: listed(0) }), weight: t([33], { values: weight }) }, attrs },
    { name: 'many rows', dtypes: ['f32'], inputs: { x: t([257, 130]), weight: t([130], { values: weight }) }, attrs },
    {
      name: 'specials',
      inputs: {
        x: t([3, 4], { values: listed(1, NaN, 2, 3, 1, Infinity, -1, 2, 1, 2, 3, 4) }),
        weight: t([4], { values: weight }),
      },
      attrs,
    },
  ],
  () => ({ rel: 4e-6 }),
);
