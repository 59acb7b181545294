import { defineCases, type Layout, normal, rowTolerance, spiked, t, type Values } from '../common/cases.ts';
import { reference as softmax } from '../softmax/reference.ts';
import type { SoftmaxBackward } from './contract.ts';

/** Rows that sum to 1: the softmax of normal numbers. */
const probabilities =
  (shape: readonly number[]): Values =>
  (rng, count, made, attrs) =>
    softmax({ x: { dtype: 'f32', shape, data: Float64Array.from(normal(2)(rng, count, made, attrs)) } }, {}).y.data;
const inputs = (shape: readonly number[], layout: Layout = 'contiguous') => ({
  dy: t(shape, { layout }),
  y: t(shape, { values: probabilities(shape), layout }),
});

export const cases = defineCases<SoftmaxBackward>(
  [
    ...[1, 31, 32, 33, 67, 127, 1021].map((n) => ({ name: `width ${n}`, inputs: inputs([3, n]), attrs: {} })),
    { name: 'no rows', inputs: inputs([0, 33]), attrs: {} },
    { name: 'four axes', inputs: inputs([2, 3, 5, 33]), attrs: {}, inplace: true },
    { name: 'sliced', inputs: inputs([7, 31], 'sliced'), attrs: {}, outputs: { dx: 'sliced' }, inplace: true },
    {
      name: 'specials',
      inputs: { ...inputs([4, 33]), dy: t([4, 33], { values: spiked({ 3: NaN, 40: Infinity, 80: -Infinity }) }) },
      attrs: {},
      inplace: true,
    },
    { name: 'f32 dy', inputs: { dy: t([5, 33]), y: t([5, 33], { values: probabilities([5, 33]) }) }, attrs: {} },
  ],
  rowTolerance(4e-6),
);
