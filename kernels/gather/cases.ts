import { defineCases, integers, listed, normal, of, t } from '../common/cases.ts';
import { dtypes } from '../common/dtype.ts';
import type { Gather } from './contract.ts';

const values = normal(50);

export const cases = defineCases<Gather>([
  ...[0, 1, 31, 32, 33, 127].map((n) => ({
    name: `${n} rows`,
    inputs: { table: t([17, 33]), ids: of('i32', [n], integers(0, 17)) },
    attrs: {},
  })),
  {
    name: 'rows by rows',
    dtypes,
    inputs: { table: t([13, 31], { values }), ids: of('i32', [3, 5], integers(0, 13)) },
    attrs: {},
  },
  { name: 'numbers', dtypes, inputs: { table: t([16], { values }), ids: of('u32', [67], integers(0, 16)) }, attrs: {} },
  { name: 'rows of two axes', inputs: { table: t([5, 3, 7]), ids: of('i32', [9], integers(0, 5)) }, attrs: {} },
  {
    name: 'outside',
    dtypes,
    inputs: { table: t([5, 33], { values }), ids: of('i32', [6], listed(-1, 4, 5, 0, -2147483648, 2147483647)) },
    attrs: {},
  },
  {
    name: 'outside, unsigned',
    inputs: { table: t([5, 33]), ids: of('u32', [4], listed(4294967295, 4, 5, 0)) },
    attrs: {},
  },
  { name: 'a scalar id', inputs: { table: t([5, 33]), ids: of('i32', [], listed(3)) }, attrs: {} },
  { name: 'no columns', inputs: { table: t([5, 0]), ids: of('i32', [3], integers(0, 5)) }, attrs: {} },
  ...(['f32', 'bf16', 'f16'] as const).map((dtype) => ({
    name: `into ${dtype}`,
    inputs: { table: t([11, 33]), ids: of('i32', [7], integers(0, 11)) },
    attrs: { dtype },
  })),
  {
    name: 'bytes into f32',
    dtypes: ['u8'],
    inputs: { table: t([11, 33], { values: integers(0, 256) }), ids: of('i32', [7], integers(0, 11)) },
    attrs: { dtype: 'f32' },
  },
  {
    name: 'of a transposed table',
    inputs: { table: t([31, 17], { layout: 'transposed' }), ids: of('i32', [5], integers(0, 31)) },
    attrs: {},
  },
  {
    name: 'of a sliced table into sliced rows',
    dtypes,
    inputs: { table: t([9, 33], { values, layout: 'sliced' }), ids: of('i32', [3, 5], integers(0, 9), 'sliced') },
    attrs: {},
    outputs: { y: 'sliced' },
  },
  {
    name: 'repeated ids',
    inputs: { table: t([9, 33]), ids: of('i32', [4, 3], integers(0, 9), { broadcast: [0] }) },
    attrs: {},
  },
  {
    name: 'wide rows',
    dtypes: ['f32', 'bf16'],
    inputs: { table: t([67, 576]), ids: of('i32', [33], integers(0, 67)) },
    attrs: {},
  },
  {
    name: 'specials',
    inputs: {
      table: t([3, 4], { values: listed(NaN, Infinity, -0, 1, -Infinity) }),
      ids: of('i32', [3], listed(2, 0, 1)),
    },
    attrs: {},
  },
]);
