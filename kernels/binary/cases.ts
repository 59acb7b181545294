import {
  type CaseInit,
  defineCases,
  integers,
  listed,
  type Tolerance,
  t,
  uniform,
  type Values,
} from '../common/cases.ts';
import type { DType } from '../common/dtype.ts';
import type { Binary } from './contract.ts';
import { type BinaryOp, binaryOps } from './table.ts';

const accuracy: Partial<Record<BinaryOp, Tolerance>> = { div: { rel: 5e-7 }, pow: { rel: 1e-5 } };
const names = Object.keys(binaryOps) as BinaryOp[];
const kind = (op: BinaryOp) => binaryOps[op].kind;
const make = (op: BinaryOp, name: string, rest: Omit<CaseInit<Binary>, 'name' | 'attrs'>): CaseInit<Binary> => ({
  name: `${op} ${name}`.trim(),
  attrs: { op },
  tolerance: (dtype) => (kind(op) === 'compare' || !dtype.includes('f') ? 'exact' : (accuracy[op] ?? {})),
  ...rest,
});

const special = [NaN, Infinity, -Infinity, 0, 1, -1, 3e38, 1e-30];
/** Every special number with every other. */
const slow: Values = (_, n) => Float64Array.from({ length: n }, (_, i) => special[Math.floor(i / special.length)]!);
const fast: Values = listed(...special);
/** Few values, so that equal ones meet. */
const few = integers(-2, 3);

const floatOps = names.filter((op) => kind(op) !== 'bits');
const onIntegers = (dtype: DType, ops: readonly BinaryOp[], a: Values, b: Values) =>
  ops.map((op) =>
    make(op, `of ${dtype}`, {
      dtypes: [dtype],
      inputs: { a: t([3, 33], { values: a }), b: t([3, 33], { values: b }) },
    }),
  );
const comparisons = names.filter((op) => kind(op) === 'compare');

export const cases = defineCases<Binary>([
  ...floatOps.flatMap((op) => {
    const values = op === 'pow' ? uniform(0.1, 4) : kind(op) === 'compare' ? few : undefined;
    const options = values ? { values } : {};
    return [
      make(op, '', { inputs: { a: t([3, 67], options), b: t([3, 67], options) } }),
      make(op, 'sliced', {
        dtypes: ['f32'],
        inputs: {
          a: t([5, 33], { ...options, layout: 'sliced' }),
          b: t([5, 33], { ...options, layout: 'transposed' }),
        },
        outputs: { y: 'sliced' },
        inplace: kind(op) === 'arithmetic',
      }),
    ];
  }),
  ...floatOps
    .filter((op) => op !== 'pow')
    .map((op) =>
      make(op, 'specials', {
        dtypes: ['f32', 'bf16'],
        inputs: { a: t([8, 8], { values: slow }), b: t([8, 8], { values: fast }) },
      }),
    ),
  ...[0, 1, 31, 32, 33, 127, 1021].map((n) =>
    make('add', `n=${n}`, { inputs: { a: t([n]), b: t([n]) }, inplace: true }),
  ),
  make('mul', 'of scalars', { inputs: { a: t([]), b: t([]) } }),
  make('add', 'of a row', { inputs: { a: t([5, 33]), b: t([5, 33], { layout: { broadcast: [0] } }) }, inplace: true }),
  make('mul', 'of a column', { inputs: { a: t([5, 33]), b: t([5, 33], { layout: { broadcast: [1] } }) } }),
  make('sub', 'of a row and a column', {
    inputs: { a: t([7, 31], { layout: { broadcast: [0] } }), b: t([7, 31], { layout: { broadcast: [1] } }) },
  }),
  make('mul', 'of one number', {
    inputs: { a: t([3, 127]), b: t([3, 127], { layout: { broadcast: [0, 1] } }) },
    inplace: true,
  }),
  make('add', 'of four axes', {
    inputs: {
      a: t([2, 3, 5, 8], { layout: { order: [0, 2, 1, 3] } }),
      b: t([2, 3, 5, 8], { layout: { broadcast: [1, 2] } }),
    },
  }),
  make('add', 'offset and stepped', {
    inputs: { a: t([67], { layout: 'offset' }), b: t([67], { layout: 'stepped' }) },
    outputs: { y: 'offset' },
  }),
  make('mul', 'windows', {
    inputs: { a: t([5, 32], { layout: 'window' }), b: t([5, 32], { layout: 'window' }) },
    outputs: { y: 'window' },
    inplace: true,
  }),
  make('add', 'large', { dtypes: ['f32'], inputs: { a: t([129, 257]), b: t([129, 257]) } }),
  make('pow', 'of zero', {
    dtypes: ['f32'],
    inputs: { a: t([3], { values: listed(0, 0, 1) }), b: t([3], { values: listed(2, 0.5, 7) }) },
  }),
  // Integers
  ...onIntegers('i32', ['add', 'sub', 'mul'], integers(-(2 ** 31), 2 ** 31), integers(-(2 ** 31), 2 ** 31)),
  ...onIntegers('i32', ['max', 'min'], integers(-(2 ** 31), 2 ** 31), integers(-(2 ** 31), 2 ** 31)),
  ...onIntegers('i32', ['div'], integers(-1000, 1000), integers(1, 50)),
  ...onIntegers('i32', comparisons, integers(-3, 3), integers(-3, 3)),
  ...onIntegers('u32', ['add', 'sub', 'mul', 'max', 'min', 'and', 'or'], integers(0, 2 ** 32), integers(0, 2 ** 32)),
  ...onIntegers('u32', ['shiftRight', 'shiftLeft'], integers(0, 2 ** 32), integers(0, 32)),
  ...onIntegers('u32', ['lt', 'ge'], listed(0, 1, 2 ** 31, 2 ** 32 - 1), listed(2 ** 31, 0, 2 ** 32 - 1)),
  ...onIntegers(
    'u8',
    ['and', 'or', 'mul', 'max', 'min', 'add', 'sub', 'eq', 'ne', 'lt'],
    integers(0, 256),
    integers(0, 256),
  ),
  ...onIntegers('u8', ['shiftRight', 'shiftLeft'], integers(0, 256), integers(0, 8)),
  ...[0, 1, 31, 33, 127].map((n) =>
    make('and', `of bytes n=${n}`, {
      dtypes: ['u8'],
      inputs: {
        a: t([n], { values: integers(0, 256), layout: 'offset' }),
        b: t([n], { values: listed(15), layout: { broadcast: [0] } }),
      },
      inplace: true,
    }),
  ),
]);
