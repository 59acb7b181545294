import {
  type CaseInit,
  defineCases,
  type Layout,
  type Operand,
  of,
  rowTolerance,
  spiked,
  t,
  type Values,
} from '../common/cases.ts';
import type { Attention } from './contract.ts';

/** [batch, queries, keys, query heads, key heads, head width] */
export type Sizes = readonly [b: number, tq: number, tk: number, hq: number, hkv: number, d: number];

export interface AttentionSetup {
  readonly name: string;
  readonly sizes: Sizes;
  readonly causal: boolean;
  readonly starts?: Values;
  readonly ends?: Values;
  /** Of q; normal numbers where absent. */
  readonly queries?: Values;
  readonly layouts?: { readonly q: Layout; readonly k: Layout; readonly v: Layout };
  readonly dtypes?: readonly ('f32' | 'f16')[];
}

/** f(batch, position) for each entry of an i32 [B, Tq]. */
const each =
  (tq: number, f: (s: number, i: number) => number): Values =>
  (_, count) =>
    Float64Array.from({ length: count }, (_, at) => f(Math.floor(at / tq), at % tq));

/** Windows on one buffer [B, T, (Hq + 2·Hkv)·D], as a joint projection leaves them. */
const joint = (hq: number, hkv: number, d: number) => ({
  q: { pad: [0, 0, 2 * hkv, 0] },
  k: { pad: [0, 0, hq + hkv, 0], start: hq * d },
  v: { pad: [0, 0, hq + hkv, 0], start: (hq + hkv) * d },
});

/** Shared by forward and backward. */
export const setups: readonly AttentionSetup[] = [
  ...[1, 2, 31, 32, 33, 65, 130].map((tokens) => ({
    name: `causal, ${tokens} tokens`,
    sizes: [1, tokens, tokens, 2, 2, 32] as const,
    causal: true,
  })),
  ...[1, 31, 33, 67].map((tokens) => ({
    name: `full, ${tokens} tokens`,
    sizes: [2, tokens, tokens, 2, 1, 16] as const,
    causal: false,
  })),
  { name: 'grouped heads', sizes: [2, 33, 33, 4, 2, 32], causal: true },
  { name: 'nine heads over three', sizes: [1, 33, 33, 9, 3, 64], causal: true },
  { name: 'all heads over one', sizes: [1, 17, 17, 4, 1, 8], causal: false },
  { name: 'head width 128', sizes: [1, 35, 35, 2, 2, 128], causal: true },
  // Long enough for kernels that take 64 queries or more at a time.
  {
    name: 'heads of 64, packed',
    sizes: [2, 130, 130, 4, 2, 64],
    causal: true,
    starts: each(130, (_, i) => (i < 50 ? 0 : i < 97 ? 50 : 97)),
  },
  { name: 'heads of 128, queries after a cache', sizes: [1, 70, 200, 2, 1, 128], causal: true },
  // Whole tiles of f16: what kernels on matrices take.
  {
    name: 'whole tiles, packed',
    sizes: [1, 128, 192, 4, 2, 32],
    causal: true,
    starts: each(128, (_, i) => (i < 50 ? 0 : 50)),
    dtypes: ['f16'],
  },
  {
    name: 'whole tiles, the last of keys is half, some queries are blind',
    sizes: [1, 64, 96, 2, 1, 32],
    causal: false,
    ends: each(64, (_, i) => (i % 7 ? 32 + i : 0)),
    dtypes: ['f16'],
  },
  { name: 'whole tiles of heads of 128', sizes: [1, 64, 128, 2, 1, 128], causal: true, dtypes: ['f16'] },
  { name: 'head width 80', sizes: [1, 33, 33, 2, 2, 80], causal: true, dtypes: ['f32'] },
  { name: 'head width 7', sizes: [1, 9, 9, 2, 2, 7], causal: true, dtypes: ['f32'] },
  { name: 'one query on a cache', sizes: [1, 1, 130, 4, 2, 32], causal: true },
  { name: 'five queries on a cache', sizes: [2, 5, 33, 2, 1, 32], causal: true },
  { name: 'more queries than keys', sizes: [1, 9, 5, 2, 2, 16], causal: true },
  { name: 'more queries than keys, full', sizes: [1, 67, 33, 2, 2, 16], causal: false },
  { name: 'no queries', sizes: [1, 0, 5, 2, 2, 16], causal: false },
  { name: 'no batch', sizes: [0, 5, 5, 2, 2, 16], causal: true },
  {
    name: 'packed samples',
    sizes: [1, 67, 67, 2, 1, 32],
    causal: true,
    starts: each(67, (_, i) => (i < 13 ? 0 : i < 40 ? 13 : 40)),
  },
  {
    name: 'sliding window',
    sizes: [1, 65, 65, 2, 2, 32],
    causal: true,
    starts: each(65, (_, i) => Math.max(0, i - 15)),
  },
  { name: 'padding', sizes: [3, 33, 33, 2, 1, 32], causal: true, ends: each(33, (s) => [33, 20, 1][s]!) },
  { name: 'padding, full', sizes: [3, 33, 33, 2, 1, 32], causal: false, ends: each(33, (s) => [33, 20, 1][s]!) },
  {
    name: 'blind queries',
    sizes: [2, 9, 33, 2, 2, 32],
    causal: false,
    starts: each(9, (s, i) => (s ? i : 5)),
    ends: each(9, (_, i) => (i % 3 ? 12 : 2)),
  },
  {
    name: 'windows on both sides',
    sizes: [1, 33, 33, 2, 1, 32],
    causal: false,
    starts: each(33, (_, i) => Math.max(0, i - 4)),
    ends: each(33, (_, i) => Math.min(33, i + 5)),
  },
  { name: 'a NaN in a query', sizes: [1, 33, 33, 2, 1, 32], causal: false, queries: spiked({ [5 * 64 + 32]: NaN }) },
  { name: 'joint projection', sizes: [2, 33, 33, 4, 2, 32], causal: true, layouts: joint(4, 2, 32) },
  {
    name: 'head-major',
    sizes: [2, 17, 17, 2, 2, 32],
    causal: true,
    layouts: { q: { order: [0, 2, 1, 3] }, k: { order: [0, 2, 1, 3] }, v: { order: [0, 2, 1, 3] } },
  },
];

export function attentionInputs({ sizes: [b, tq, tk, hq, hkv, d], starts, ends, queries, layouts }: AttentionSetup): {
  q: Operand;
  k: Operand;
  v: Operand;
  starts?: Operand;
  ends?: Operand;
} {
  return {
    q: t([b, tq, hq, d], { layout: layouts?.q ?? 'contiguous', ...(queries ? { values: queries } : {}) }),
    k: t([b, tk, hkv, d], { layout: layouts?.k ?? 'contiguous' }),
    v: t([b, tk, hkv, d], { layout: layouts?.v ?? 'contiguous' }),
    ...(starts ? { starts: of('i32', [b, tq], starts) } : {}),
    ...(ends ? { ends: of('i32', [b, tq], ends) } : {}),
  };
}

export const cases = defineCases<Attention>(
  [
    ...setups.map(
      (setup): CaseInit<Attention> => ({
        name: setup.name,
        ...(setup.dtypes ? { dtypes: setup.dtypes } : {}),
        inputs: attentionInputs(setup),
        attrs: { scale: 1 / Math.sqrt(setup.sizes[5]), causal: setup.causal },
      }),
    ),
    {
      name: 'values that are not finite',
      inputs: {
        q: t([1, 9, 2, 32]),
        k: t([1, 9, 1, 32]),
        v: t([1, 9, 1, 32], { values: spiked({ 1: Infinity, 70: NaN, 100: -Infinity }) }),
      },
      attrs: { scale: 0.2, causal: false },
    },
  ],
  // Weights may be rounded to the half dtype before they meet v.
  (dtype, output) => (output === 'lse' ? { row: 5e-6, abs: 5e-6 } : rowTolerance(1e-5, 3)(dtype)),
);
