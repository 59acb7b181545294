import { defineCases, integers, listed, normal, t } from '../common/cases.ts';
import { type DType, dtypes } from '../common/dtype.ts';
import type { Cast } from './contract.ts';

/** Midway between neighbours of f16 (11 bits) and bf16 (8 bits), with odd and even lower neighbours, and next to midway. */
const ties = [1, 3, 5].flatMap((odd) =>
  [2 ** -11, 2 ** -8].flatMap((half) => [
    1 + odd * half,
    -1 - odd * half,
    1 + odd * half + 2 ** -22,
    1 + odd * half - 2 ** -22,
  ]),
);
const edges = [
  NaN,
  Infinity,
  -Infinity,
  0,
  65504,
  65519,
  65520,
  -65520,
  1e10,
  -1e10,
  3.4e38,
  2147483520,
  2147483648,
  4294967040,
  4294967296,
  -2147483904,
  -1,
  -0.9,
  0.9,
  1.5,
  254.9,
  255.9,
  256,
];

export const cases = defineCases<Cast>([
  ...dtypes.flatMap((dtype) => [
    { name: `to ${dtype}`, dtypes, inputs: { x: t([3, 67], { values: normal(100) }) }, attrs: { dtype } },
    {
      name: `edges to ${dtype}`,
      inputs: { x: t([edges.length], { values: listed(...edges) }) },
      attrs: { dtype },
    },
    {
      name: `large integers to ${dtype}`,
      dtypes: ['i32', 'u32'] as const,
      inputs: { x: t([33], { values: integers(-(2 ** 31), 2 ** 31) }) },
      attrs: { dtype },
    },
  ]),
  ...(['f16', 'bf16'] as const).flatMap((dtype) => [
    { name: `ties to ${dtype}`, inputs: { x: t([ties.length], { values: listed(...ties) }) }, attrs: { dtype } },
    {
      name: `signed zeros to ${dtype}`,
      dtypes: ['f32'] as const,
      inputs: { x: t([2], { values: listed(-0, 0) }) },
      attrs: { dtype },
    },
    {
      name: `subnormal to ${dtype}`,
      dtypes: ['f32'] as const,
      inputs: {
        x: t([11], {
          values: listed(
            2 ** -14,
            2 ** -15,
            2 ** -24,
            2 ** -25,
            1.01 * 2 ** -25,
            1.5 * 2 ** -24,
            2.5 * 2 ** -24,
            -1e-7,
            1e-40,
            -3e-39,
            1e-45,
          ),
        }),
      },
      attrs: { dtype },
    },
  ]),
  {
    name: 'subnormal to f32',
    dtypes: ['f16', 'bf16'],
    inputs: { x: t([5], { values: listed(2 ** -24, -(2 ** -15), 3 * 2 ** -24, 1e-40, 1e-39) }) },
    attrs: { dtype: 'f32' },
  },
  ...[0, 1, 31, 32, 33, 127, 4099].flatMap((n) =>
    (['f32', 'bf16'] as const).map((dtype) => ({
      name: `n=${n} to ${dtype}`,
      dtypes: ['f32', 'f16', 'bf16'].filter((from) => from !== dtype) as DType[],
      inputs: { x: t([n]) },
      attrs: { dtype },
    })),
  ),
  {
    name: 'transposed to sliced',
    inputs: { x: t([33, 31], { layout: 'transposed' }) },
    attrs: { dtype: 'bf16' },
    outputs: { y: 'sliced' },
  },
  {
    name: 'sliced to transposed',
    inputs: { x: t([5, 33], { layout: 'sliced' }) },
    attrs: { dtype: 'f32' },
    outputs: { y: 'transposed' },
  },
  { name: 'broadcast', inputs: { x: t([5, 33], { layout: { broadcast: [0] } }) }, attrs: { dtype: 'f32' } },
  {
    name: 'bytes at an odd offset',
    dtypes: ['u8'],
    inputs: { x: t([67], { values: integers(0, 256), layout: 'offset' }) },
    attrs: { dtype: 'u32' },
  },
]);
