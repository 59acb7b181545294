import { type CaseInit, defineCases, listed, normal, of, rowTolerance, t } from '../common/cases.ts';
import type { DType } from '../common/dtype.ts';
import type { Matmul } from './contract.ts';

const product = (
  m: number,
  k: number,
  n: number,
  dtypes: readonly DType[] = ['f32', 'f16', 'bf16'],
): CaseInit<Matmul> => ({
  name: `${m}×${k}×${n}`,
  dtypes,
  inputs: { a: t([m, k]), b: t([k, n]) },
  attrs: {},
});
const layouts = ['transposed', 'sliced', 'window', 'offset'] as const;

export const cases = defineCases<Matmul>(
  [
    product(1, 1, 1),
    product(1, 32, 33),
    product(1, 257, 67),
    product(33, 31, 1),
    product(31, 33, 32),
    product(7, 67, 127),
    product(32, 32, 32),
    product(64, 128, 64),
    product(0, 5, 3),
    product(3, 5, 0),
    product(3, 0, 5),
    product(129, 257, 65),
    product(130, 576, 192, ['f32']),
    product(17, 1021, 3, ['f32']),
    // Tall and thin, as a pair's first product.
    product(261, 300, 12),
    {
      name: '258×257×20, b transposed, alpha',
      inputs: { a: t([258, 257]), b: t([257, 20], { layout: 'transposed' }) },
      attrs: { alpha: -0.5 },
    },
    { name: '300×256×3 from slices', inputs: { a: t([300, 256], { layout: 'sliced' }), b: t([256, 3]) }, attrs: {} },
    // On vectors of eight: what kernels on matrices take.
    ...(['contiguous', 'transposed'] as const).flatMap((first) =>
      (['contiguous', 'transposed'] as const).map((second) => ({
        name: `136×72×144, a ${first}, b ${second}`,
        dtypes: ['f16'] as const,
        inputs: { a: t([136, 72], { layout: first }), b: t([72, 144], { layout: second }) },
        attrs: {},
      })),
    ),
    ...layouts.flatMap((layout) => [
      { name: `a ${layout}`, inputs: { a: t([33, 67], { layout }), b: t([67, 31]) }, attrs: {} },
      { name: `b ${layout}`, inputs: { a: t([33, 67]), b: t([67, 31], { layout }) }, attrs: {} },
      { name: `both ${layout}`, inputs: { a: t([33, 64], { layout }), b: t([64, 32], { layout }) }, attrs: {} },
    ]),
    { name: 'b transposed, one row', inputs: { a: t([1, 257]), b: t([257, 67], { layout: 'transposed' }) }, attrs: {} },
    {
      name: 'a and b stepped',
      dtypes: ['f32'],
      inputs: { a: t([9, 33], { layout: 'stepped' }), b: t([33, 7], { layout: 'stepped' }) },
      attrs: {},
    },
    { name: 'into a slice', inputs: { a: t([33, 32]), b: t([32, 31]) }, attrs: {}, outputs: { y: 'sliced' } },
    {
      name: 'into a window',
      inputs: { a: t([33, 32]), b: t([32, 64], { layout: 'transposed' }) },
      attrs: {},
      outputs: { y: 'window' },
    },
    {
      name: 'row bias',
      inputs: { a: t([33, 32]), b: t([32, 67]), c: t([33, 67], { layout: { broadcast: [0] } }) },
      attrs: {},
    },
    { name: 'added to c', inputs: { a: t([31, 33]), b: t([33, 65]), c: t([31, 65]) }, attrs: {}, inplace: true },
    {
      name: 'alpha and beta',
      inputs: { a: t([31, 33]), b: t([33, 65]), c: t([31, 65]) },
      attrs: { alpha: 0.5, beta: -2 },
      inplace: true,
    },
    {
      name: 'c in a slice',
      inputs: { a: t([17, 33]), b: t([33, 31]), c: t([17, 31], { layout: 'sliced' }) },
      attrs: { alpha: 2 },
      outputs: { y: 'sliced' },
      inplace: true,
    },
    { name: 'no inner axis, with c', inputs: { a: t([3, 0]), b: t([0, 5]), c: t([3, 5]) }, attrs: { beta: 3 } },
    { name: 'alpha alone', inputs: { a: t([5, 64]), b: t([64, 33]) }, attrs: { alpha: -1.5 } },
    { name: 'into f32', dtypes: ['f16', 'bf16'], inputs: { a: t([33, 65]), b: t([65, 32]) }, attrs: { dtype: 'f32' } },
    {
      name: 'f32 into T',
      dtypes: ['f16', 'bf16'],
      inputs: { a: of('f32', [33, 65]), b: of('f32', [65, 32]) },
      attrs: (dtype) => ({ dtype: dtype as 'f16' }),
    },
    { name: 'T by f32', dtypes: ['f16', 'bf16'], inputs: { a: t([33, 65]), b: of('f32', [65, 32]) }, attrs: {} },
    {
      name: 'f32 by T',
      dtypes: ['f16', 'bf16'],
      inputs: { a: of('f32', [33, 65]), b: t([65, 32], { layout: 'transposed' }) },
      attrs: {},
    },
    {
      name: 'f32 c',
      dtypes: ['f16', 'bf16'],
      inputs: { a: t([9, 33]), b: t([33, 32]), c: of('f32', [9, 32]) },
      attrs: {},
    },
    { name: 'batch', inputs: { a: t([3, 17, 33]), b: t([3, 33, 31]) }, attrs: {} },
    { name: 'batch of no products', inputs: { a: t([0, 17, 33]), b: t([0, 33, 31]) }, attrs: {} },
    {
      name: 'batch, b transposed',
      inputs: { a: t([5, 16, 32]), b: t([5, 32, 16], { layout: 'transposed' }) },
      attrs: {},
    },
    {
      name: 'two batch axes, b shared',
      inputs: { a: t([2, 3, 9, 17]), b: t([2, 3, 17, 11], { layout: { broadcast: [1] } }) },
      attrs: {},
    },
    {
      name: 'batch shared by all',
      inputs: { a: t([4, 9, 17], { layout: { broadcast: [0] } }), b: t([4, 17, 11]) },
      attrs: {},
    },
    {
      name: 'heads of a joint projection',
      inputs: {
        a: t([2, 3, 33, 32], { layout: { order: [0, 2, 1, 3], pad: [0, 2, 0, 0] } }),
        b: t([2, 3, 32, 33], { layout: { order: [0, 3, 1, 2], pad: [0, 2, 0, 0] } }),
      },
      attrs: { alpha: 0.125 },
    },
    {
      name: 'batch with c',
      inputs: { a: t([3, 9, 17]), b: t([3, 17, 11]), c: t([3, 9, 11], { layout: { broadcast: [0, 1] } }) },
      attrs: { beta: 0.5 },
    },
    {
      name: 'small numbers',
      inputs: { a: t([33, 65], { values: normal(1e-3) }), b: t([65, 32], { values: normal(1e-2) }) },
      attrs: {},
      dtypes: ['f32', 'bf16'],
    },
    {
      name: 'specials',
      inputs: {
        a: t([3, 4], { values: listed(1, NaN, 2, 3, 0, 1, Infinity, 1, 1, 2, 3, 4) }),
        b: t([4, 3], { values: listed(1, 0, 2, -1, 3, 1, 0, 1, -2, 1, 1, 1) }),
      },
      attrs: {},
    },
  ],
  // A row of few columns may hold only sums that nearly cancel; their rounding is that of the tensor's other sums, hence all.
  (dtype) => ({ ...(rowTolerance(4e-6)(dtype) as object), all: 1e-6 }),
);
