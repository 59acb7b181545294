import { defineCases, integers, listed, of, rowTolerance, spiked, t, type Values } from '../common/cases.ts';
import type { Rope } from './contract.ts';

const tables = (positions: number, half: number) => {
  const angle = (i: number) => Math.floor(i / half) * 1e4 ** (-(i % half) / half);
  const table =
    (f: (x: number) => number): Values =>
    (_, n) =>
      Float64Array.from({ length: n }, (_, i) => f(angle(i)));
  return { cos: of('f32', [positions, half], table(Math.cos)), sin: of('f32', [positions, half], table(Math.sin)) };
};
const rotated = (shape: readonly [number, number, number, number], half = shape[3] / 2) => ({
  x: t(shape),
  ...tables(64, half),
  positions: of('i32', shape.slice(0, 2), integers(0, 64)),
});

export const cases = defineCases<Rope>(
  [
    ...[false, true].flatMap((inverse) => [
      {
        name: `1×33×2×64${inverse ? ', inverse' : ''}`,
        inputs: rotated([1, 33, 2, 64]),
        attrs: { inverse },
        inplace: true,
      },
      { name: `2×7×3×32${inverse ? ', inverse' : ''}`, inputs: rotated([2, 7, 3, 32]), attrs: { inverse } },
      {
        name: `part of the head${inverse ? ', inverse' : ''}`,
        inputs: rotated([2, 5, 2, 40], 8),
        attrs: { inverse },
        inplace: true,
      },
    ]),
    ...[0, 1, 3, 5].map((heads) => ({
      name: `${heads} of 5 heads`,
      inputs: rotated([2, 7, 5, 24], heads === 3 ? 8 : 12),
      attrs: { inverse: heads === 1, heads },
      inplace: true,
    })),
    {
      name: '3 of 4 heads, wide rows',
      inputs: rotated([1, 9, 4, 64]),
      attrs: { inverse: false, heads: 3 },
      inplace: true,
    },
    {
      name: 'heads that do not turn keep NaN and infinities',
      inputs: {
        ...rotated([1, 3, 2, 16]),
        x: t([1, 3, 2, 16], { values: spiked({ 17: NaN, 40: Infinity, 60: -Infinity }) }),
      },
      attrs: { inverse: false, heads: 1 },
    },
    { name: 'width 2', inputs: rotated([1, 3, 1, 2]), attrs: { inverse: false } },
    { name: 'odd half', inputs: rotated([1, 5, 3, 14]), attrs: { inverse: false } },
    { name: 'no tokens', inputs: rotated([1, 0, 3, 16]), attrs: { inverse: false } },
    { name: 'nothing rotated', inputs: rotated([1, 3, 2, 16], 0), attrs: { inverse: false } },
    {
      name: 'position 0 is the identity',
      inputs: { ...rotated([1, 5, 2, 16]), positions: of('i32', [1, 5], listed(0)) },
      attrs: { inverse: false },
    },
    {
      name: 'heads of a joint projection',
      inputs: {
        ...rotated([2, 9, 3, 64]),
        x: t([2, 9, 3, 64], { layout: { pad: [0, 0, 2, 0], start: 64 } }),
        positions: of('i32', [2, 9], integers(0, 64), { broadcast: [0] }),
      },
      attrs: { inverse: false },
      inplace: true,
    },
    {
      name: 'head-major',
      inputs: { ...rotated([2, 9, 3, 16]), x: t([2, 9, 3, 16], { layout: { order: [0, 2, 1, 3] } }) },
      attrs: { inverse: true },
    },
    {
      name: 'specials',
      inputs: {
        ...rotated([1, 5, 2, 16]),
        x: t([1, 5, 2, 16], { values: spiked({ 3: NaN, 40: Infinity, 100: -Infinity }) }),
      },
      attrs: { inverse: false },
      inplace: true,
    },
    { name: 'many', dtypes: ['f32'], inputs: rotated([1, 130, 9, 64]), attrs: { inverse: false } },
  ],
  rowTolerance(5e-7),
);
