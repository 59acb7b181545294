import { defineCases, integers, listed, normal, of, t } from '../common/cases.ts';
import { dtypes } from '../common/dtype.ts';
import type { Copy } from './contract.ts';

const values = normal(100);

export const cases = defineCases<Copy>([
  ...[0, 1, 31, 32, 33, 127, 4099].map((n) => ({
    name: `n=${n}`,
    dtypes: n === 33 ? dtypes : (['f32', 'bf16', 'u8'] as const),
    inputs: { x: t([n], { values }) },
    attrs: {},
  })),
  { name: 'scalar', inputs: { x: t([]) }, attrs: {} },
  { name: 'transposed to rows', dtypes, inputs: { x: t([67, 33], { values, layout: 'transposed' }) }, attrs: {} },
  {
    name: 'rows to transposed',
    dtypes,
    inputs: { x: t([33, 67], { values }) },
    attrs: {},
    outputs: { y: 'transposed' },
  },
  {
    name: 'window to window',
    dtypes,
    inputs: { x: t([5, 32], { values, layout: 'window' }) },
    attrs: {},
    outputs: { y: 'window' },
  },
  {
    name: 'sliced to sliced',
    dtypes,
    inputs: { x: t([7, 31], { values, layout: 'sliced' }) },
    attrs: {},
    outputs: { y: 'sliced' },
  },
  {
    name: 'stepped to offset',
    dtypes,
    inputs: { x: t([127], { values, layout: 'stepped' }) },
    attrs: {},
    outputs: { y: 'offset' },
  },
  {
    name: 'offset to stepped',
    dtypes: ['f32', 'f16', 'u8'],
    inputs: { x: t([67], { values, layout: 'offset' }) },
    attrs: {},
    outputs: { y: 'stepped' },
  },
  {
    name: 'heads of four axes',
    inputs: { x: t([2, 5, 3, 16], { layout: { order: [0, 2, 1, 3] } }) },
    attrs: {},
  },
  {
    name: 'five axes in reverse',
    dtypes: ['f32', 'u8'],
    inputs: { x: t([2, 3, 4, 3, 5], { values, layout: { order: [4, 3, 2, 1, 0] } }) },
    attrs: {},
  },
  { name: 'broadcast rows', inputs: { x: t([5, 33], { layout: { broadcast: [0] } }) }, attrs: {} },
  { name: 'broadcast columns', inputs: { x: t([5, 33], { layout: { broadcast: [1] } }) }, attrs: {} },
  { name: 'broadcast all', dtypes, inputs: { x: t([3, 11], { values, layout: { broadcast: [0, 1] } }) }, attrs: {} },
  { name: 'empty axis in the middle', inputs: { x: t([3, 0, 5]) }, attrs: {} },
  { name: 'large transposed', dtypes: ['f32'], inputs: { x: t([129, 257], { layout: 'transposed' }) }, attrs: {} },
  {
    name: 'specials',
    inputs: { x: t([7], { values: listed(NaN, Infinity, -Infinity, 0, -0, 65504, -1) }) },
    attrs: {},
  },
  {
    name: 'all codes of a byte',
    dtypes: ['u8'],
    inputs: { x: of('u8', [256], (_, n) => Uint8Array.from({ length: n }, (_, i) => i)) },
    attrs: {},
  },
  {
    name: 'large integers',
    dtypes: ['i32', 'u32'],
    inputs: { x: t([33], { values: integers(-(2 ** 31), 2 ** 31) }) },
    attrs: {},
  },
  {
    name: 'subnormal',
    inputs: { x: t([5], { values: listed(1e-40, -1e-40, 2 ** -24, 2 ** -133, -(2 ** -149)) }) },
    attrs: {},
  },
]);
