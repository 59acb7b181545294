import { defineCases, listed, of } from '../common/cases.ts';
import { type DType, floatDTypes } from '../common/dtype.ts';
import type { Random } from './contract.ts';

const seed = (...words: [number, number, number, number]) => ({ seed: of('u32', [4], listed(...words)) });
const draw =
  (shape: readonly number[], distribution: 'bits' | 'uniform' | 'normal', site = 0) =>
  (dtype: DType) => ({ shape, dtype, distribution, site });

export const cases = defineCases<Random>(
  [
    ...[0, 1, 2, 3, 4, 31, 32, 33, 127].map((n) => ({
      name: `bits n=${n}`,
      dtypes: ['u32'] as const,
      inputs: seed(42, 7, 3, 1),
      attrs: draw([n], 'bits', 5),
    })),
    {
      name: 'bits, every counter word large',
      dtypes: ['u32'],
      inputs: seed(0xffffffff, 0xfffffffe, 0xfffffffd, 0xfffffffc),
      attrs: draw([67], 'bits', 0xfffffffb),
    },
    { name: 'bits, zero seed', dtypes: ['u32'], inputs: seed(0, 0, 0, 0), attrs: draw([8], 'bits') },
    {
      name: 'bits, sliced',
      dtypes: ['u32'],
      inputs: seed(1, 2, 3, 4),
      attrs: draw([5, 31], 'bits'),
      outputs: { y: 'sliced' },
    },
    ...[1, 33, 1021].map((n) => ({
      name: `uniform n=${n}`,
      inputs: seed(1234, 0, 10, 0),
      attrs: draw([n], 'uniform', 3),
    })),
    {
      name: 'uniform, transposed',
      dtypes: ['f32'],
      inputs: seed(9, 8, 7, 6),
      attrs: draw([7, 33], 'uniform'),
      outputs: { y: 'transposed' },
    },
    ...[1, 2, 33, 1021].map((n) => ({
      name: `normal n=${n}`,
      inputs: seed(77, 0, 0, 2),
      attrs: draw([n], 'normal', 1),
    })),
    {
      name: 'normal of odd rows',
      dtypes: floatDTypes,
      inputs: seed(5, 5, 5, 5),
      attrs: draw([3, 5, 7], 'normal', 11),
      outputs: { y: 'sliced' },
    },
  ].map((c) => ({
    ...c,
    // Near u = 1 the logarithm is small, and √ makes its error large.
    tolerance: c.name.startsWith('normal') ? () => ({ abs: 5e-5 }) : () => 'exact' as const,
  })) as Parameters<typeof defineCases<Random>>[0],
);
