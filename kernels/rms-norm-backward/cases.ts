import {
  defineCases,
  type Layout,
  normal,
  type Operand,
  of,
  rowTolerance,
  spiked,
  t,
  type Values,
} from '../common/cases.ts';
import { reference as rmsNorm } from '../rms-norm/reference.ts';
import type { RmsNormBackward } from './contract.ts';

/** What the forward pass kept of the same x. */
const rstd: Values = (_, __, made) => rmsNorm({ x: made.x!, weight: made.weight! }, { eps: 1e-5 }).rstd.data;
const inputs = (
  shape: readonly number[],
  layout: Layout = 'contiguous',
  weight: Operand = t(shape.slice(-1), { values: normal(0.3, 1) }),
) => ({
  dy: t(shape, { layout }),
  x: t(shape, { layout }),
  weight,
  rstd: of('f32', shape.slice(0, -1), rstd),
});

export const cases = defineCases<RmsNormBackward>(
  [
    ...[1, 31, 32, 33, 67, 127, 576].flatMap((d) => [
      { name: `width ${d}`, inputs: inputs([5, d]), attrs: { needWeight: false }, inplace: d === 67 },
      { name: `width ${d}, weight`, inputs: inputs([5, d]), attrs: { needWeight: true }, inplace: d === 67 },
    ]),
    { name: 'no rows', inputs: inputs([0, 33]), attrs: { needWeight: true } },
    { name: 'one row', inputs: inputs([64]), attrs: { needWeight: true } },
    { name: 'three axes', inputs: inputs([2, 7, 96]), attrs: { needWeight: true }, inplace: true },
    {
      name: 'f32 weight',
      dtypes: ['f16', 'bf16'],
      inputs: inputs([5, 64], 'contiguous', of('f32', [64], normal(0.3, 1))),
      attrs: { needWeight: true },
    },
    { name: 'sliced', inputs: inputs([5, 31], 'sliced'), attrs: { needWeight: true }, outputs: { dx: 'sliced' } },
    {
      name: 'specials',
      inputs: { ...inputs([4, 33]), dy: t([4, 33], { values: spiked({ 3: NaN, 40: Infinity }) }) },
      attrs: { needWeight: true },
      inplace: true,
    },
    {
      name: 'a NaN in x',
      inputs: { ...inputs([4, 33]), x: t([4, 33], { values: spiked({ 70: NaN }) }) },
      attrs: { needWeight: true },
    },
    { name: 'many rows', dtypes: ['f32'], inputs: inputs([257, 130]), attrs: { needWeight: true } },
  ],
  // At width 1 the two terms of dx cancel but for eps: what is left is rounding of terms of size 1, hence abs.
  (dtype, output) => (output === 'dweight' ? { all: 1e-5 } : { ...(rowTolerance(1e-5)(dtype) as object), abs: 1e-6 }),
);
