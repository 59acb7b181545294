import {
  type CaseInit,
  defineCases,
  integers,
  listed,
  normal,
  type Tolerance,
  t,
  uniform,
  type Values,
} from '../common/cases.ts';
import type { Unary } from './contract.ts';
import { type UnaryOp, unaryOps } from './table.ts';

/** Where an op is tried, if not on normal numbers. */
const domain: Partial<Record<UnaryOp, Values>> = {
  log: uniform(0.01, 20),
  sqrt: uniform(0, 20),
  rsqrt: uniform(0.01, 20),
  reciprocal: uniform(0.1, 20),
  exp: uniform(-8, 8),
  tanh: uniform(-6, 6),
  sigmoid: uniform(-20, 20),
  silu: uniform(-20, 20),
  floor: normal(30),
};

/** Accuracy that every device's own functions reach; none: correctly rounded. */
const accuracy: Partial<Record<UnaryOp, Tolerance>> = {
  affine: { rel: 2e-7, abs: 2e-7 },
  exp: { rel: 3e-6 },
  log: { rel: 5e-7, abs: 1e-6 },
  sqrt: { rel: 5e-7 },
  rsqrt: { rel: 5e-7 },
  reciprocal: { rel: 5e-7 },
  sin: { abs: 5e-6 },
  cos: { abs: 5e-6 },
  tanh: { abs: 2e-6 },
  sigmoid: { rel: 4e-6 },
  silu: { rel: 4e-6 },
};

const special = [NaN, Infinity, -Infinity, 0, 1, -1, 0.5, 3.4e38, -3.4e38, 1e-30];
/** No device reduces such arguments. */
const small = [NaN, Infinity, -Infinity, 0, 1, -1, 0.5, 1e-30];

const attrs = (op: UnaryOp) => ({
  op,
  ...(op === 'affine' ? { p: 2, q: -0.75 } : op === 'clamp' ? { p: -0.5, q: 0.75 } : {}),
});
const names = Object.keys(unaryOps) as UnaryOp[];
const make = (op: UnaryOp, name: string, rest: Omit<CaseInit<Unary>, 'name' | 'attrs'>): CaseInit<Unary> => ({
  name: `${op} ${name}`.trim(),
  attrs: attrs(op),
  tolerance: () => accuracy[op] ?? {},
  ...rest,
});
const values = (op: UnaryOp) => domain[op] ?? normal();

export const cases = defineCases<Unary>([
  ...names.flatMap((op) => [
    make(op, '', { inputs: { x: t([3, 67], { values: values(op) }) } }),
    make(op, 'sliced', {
      dtypes: ['f32'],
      inputs: { x: t([5, 33], { values: values(op), layout: 'sliced' }) },
      outputs: { y: 'transposed' },
      inplace: true,
    }),
    make(op, 'specials', {
      inputs: { x: t([special.length], { values: listed(...(op === 'sin' || op === 'cos' ? small : special)) }) },
    }),
  ]),
  ...[0, 1, 31, 32, 33, 127, 1021].flatMap((n) => [
    make('silu', `n=${n}`, { inputs: { x: t([n]) } }),
    make('affine', `n=${n}`, { dtypes: ['f32'], inputs: { x: t([n]) }, inplace: true }),
  ]),
  make('square', 'of a scalar', { inputs: { x: t([]) } }),
  make('neg', 'offset', { inputs: { x: t([67], { layout: 'offset' }) }, outputs: { y: 'offset' } }),
  make('neg', 'stepped', { inputs: { x: t([67], { layout: 'stepped' }) }, outputs: { y: 'stepped' } }),
  make('neg', 'transposed', { inputs: { x: t([33, 17], { layout: 'transposed' }) }, inplace: true }),
  make('neg', 'of four axes, permuted', {
    inputs: { x: t([2, 3, 5, 8], { layout: { order: [0, 2, 1, 3] } }) },
  }),
  make('neg', 'broadcast', { inputs: { x: t([5, 33], { layout: { broadcast: [0] } }) } }),
  make('neg', 'empty', { inputs: { x: t([3, 0]) } }),
  make('exp', 'large', { dtypes: ['f32'], inputs: { x: t([129, 257]) } }),
  make('silu', 'far from zero', {
    dtypes: ['f32'],
    inputs: { x: t([6], { values: listed(-80, -87, -100, 80, 100, 1e4) }) },
  }),
  make('tanh', 'near zero and far', { inputs: { x: t([6], { values: listed(1e-3, -1e-3, 1e-6, 40, -40, 100) }) } }),
  ...(['neg', 'abs'] as const).map((op) =>
    make(op, 'signed zeros', { inputs: { x: t([2], { values: listed(0, -0) }) }, tolerance: () => 'exact' }),
  ),
  ...(['neg', 'abs', 'square', 'affine'] as const).map((op) =>
    make(op, 'subnormal', {
      dtypes: ['f16'],
      inputs: { x: t([3], { values: listed(2 ** -24, -(2 ** -15), 3 * 2 ** -24) }) },
    }),
  ),
  // Integers
  ...(['neg', 'abs', 'sign', 'floor', 'square'] as const).map((op) =>
    make(op, 'of integers', { dtypes: ['i32'], inputs: { x: t([3, 33], { values: integers(-1000, 1000) }) } }),
  ),
  ...(['square', 'floor', 'sign'] as const).map((op) =>
    make(op, 'of small integers', { dtypes: ['u32', 'u8'], inputs: { x: t([67], { values: integers(0, 16) }) } }),
  ),
  {
    name: 'affine of integers',
    dtypes: ['i32', 'u32', 'u8'],
    inputs: { x: t([5, 33], { values: integers(0, 100), layout: 'sliced' }) },
    attrs: { op: 'affine', p: 2, q: 3 },
    inplace: true,
  },
]);
