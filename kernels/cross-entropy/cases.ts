import { defineCases, integers, type Layout, listed, normal, of, t, uniform } from '../common/cases.ts';
import type { CrossEntropy } from './contract.ts';

const inputs = (n: number, v: number, layout: Layout = 'contiguous') => ({
  logits: t([n, v], { values: normal(3), layout }),
  labels: of('i32', [n], (rng, count, made, attrs) =>
    Array.from(integers(0, v)(rng, count, made, attrs), (label, i) => (i % 3 === 1 ? -100 : label)),
  ),
});
const scale = of('f32', [1], listed(0.125));

export const cases = defineCases<CrossEntropy>(
  [
    ...[1, 2, 31, 32, 33, 127, 1021].flatMap((v) => [
      { name: `width ${v}`, inputs: inputs(5, v), attrs: { gradient: false } },
      {
        name: `width ${v}, gradient`,
        inputs: { ...inputs(5, v), scale },
        attrs: { gradient: true },
        inplace: v % 2 === 1,
      },
    ]),
    { name: 'no scale', inputs: inputs(7, 65), attrs: { gradient: true }, inplace: true },
    { name: 'no rows', inputs: inputs(0, 33), attrs: { gradient: true } },
    {
      name: 'all ignored',
      inputs: { logits: t([3, 33]), labels: of('i32', [3], listed(-100)), scale },
      attrs: { gradient: true },
      inplace: true,
    },
    {
      name: 'large logits',
      dtypes: ['f32', 'bf16'],
      inputs: { logits: t([4, 67], { values: uniform(-3e3, 3e3) }), labels: of('i32', [4], integers(0, 67)) },
      attrs: { gradient: true },
    },
    {
      name: 'sliced',
      inputs: { ...inputs(5, 31, 'sliced'), scale },
      attrs: { gradient: true },
      outputs: { dlogits: 'sliced' },
      inplace: true,
    },
    { name: 'a vocabulary', dtypes: ['f32'], inputs: { ...inputs(9, 8191), scale }, attrs: { gradient: true } },
    {
      name: 'specials',
      inputs: {
        logits: t([4, 4], {
          values: listed(1, -Infinity, 2, 3, NaN, 1, 2, 3, NaN, Infinity, 0, 1, 1, 2, -Infinity, 3),
        }),
        labels: of('i32', [4], listed(0, 1, -100, 2)),
      },
      attrs: { gradient: true },
    },
  ],
  () => ({ rel: 1e-5, abs: 2e-6 }),
);
