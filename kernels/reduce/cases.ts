import { type CaseInit, defineCases, integers, listed, type Tolerance, t, unitRoundoff } from '../common/cases.ts';
import { type DType, isFloat } from '../common/dtype.ts';
import type { Reduce, ReduceOp } from './contract.ts';

const ops: readonly ReduceOp[] = ['sum', 'sumSquares', 'max', 'min', 'argmax'];
/** `terms` numbers of size 1 summed in f32; the rest picks a number. */
const within =
  (op: ReduceOp, terms: number) =>
  (dtype: DType): Tolerance =>
    isFloat(dtype) && (op === 'sum' || op === 'sumSquares')
      ? { abs: terms * 4 * unitRoundoff.f32, rel: 1e-6 }
      : 'exact';
const make = (
  op: ReduceOp,
  shape: readonly number[],
  axes: readonly number[],
  rest: Partial<CaseInit<Reduce>> = {},
): CaseInit<Reduce> => ({
  name: `${op} [${shape}] over ${axes.join(' and ') || 'nothing'}`,
  inputs: { x: t(shape) },
  attrs: { op, axes },
  tolerance: within(
    op,
    axes.reduce((n, axis) => n * shape[axis]!, 1),
  ),
  ...rest,
});

export const cases = defineCases<Reduce>([
  ...ops.flatMap((op) => [
    make(op, [3, 67], [1]),
    make(op, [67, 3], [0]),
    make(op, [5, 7, 11], [1], { dtypes: ['f32', 'bf16'] }),
    ...[1, 31, 32, 33, 127].map((n) => make(op, [n], [0], { dtypes: ['f32', 'f16'] })),
    make(op, [2, 4099], [1], { dtypes: ['f32'] }),
    make(op, [1031, 5], [0], { dtypes: ['f32'] }),
    make(op, [7, 33], [1], {
      name: `${op} sliced`,
      inputs: { x: t([7, 33], { layout: 'sliced' }) },
      outputs: { y: 'stepped' },
    }),
    make(op, [7, 33], [1], { name: `${op} transposed`, inputs: { x: t([7, 33], { layout: 'transposed' }) } }),
    make(op, [0, 5], [1], { name: `${op} of no rows` }),
  ]),
  ...(['sum', 'sumSquares', 'max', 'min'] as const).flatMap((op) => [
    make(op, [5, 67], [0, 1]),
    make(op, [3, 5, 7, 11], [0, 2], { dtypes: ['f32', 'bf16'] }),
    make(op, [5, 33], [1], { name: `${op} into f32`, attrs: { op, axes: [1], dtype: 'f32' } }),
    make(op, [4, 9], [], { dtypes: ['f32'] }),
    make(op, [5, 33], [0], {
      name: `${op} of broadcast rows`,
      dtypes: ['f32'],
      inputs: { x: t([5, 33], { layout: { broadcast: [0] } }) },
    }),
    make(op, [4, 6], [1], {
      name: `${op} specials`,
      inputs: {
        x: t([4, 6], {
          values: listed(
            1,
            NaN,
            2,
            -1,
            3,
            0,
            Infinity,
            1,
            2,
            3,
            4,
            5,
            -Infinity,
            1,
            2,
            0,
            1,
            2,
            Infinity,
            -Infinity,
            0,
            1,
            0,
            1,
          ),
        }),
      },
    }),
  ]),
  make('sum', [3, 0], [1]),
  make('sumSquares', [0, 3], [0]),
  make('sum', [0], [0]),
  make('sum', [129, 513], [0, 1], { dtypes: ['f32'] }),
  make('argmax', [5, 7, 11], [0], { dtypes: ['f32'] }),
  make('argmax', [3, 33], [1], { name: 'argmax of ties', inputs: { x: t([3, 33], { values: integers(0, 3) }) } }),
  make('argmax', [3, 5], [1], {
    name: 'argmax of infinities',
    inputs: {
      x: t([3, 5], {
        values: listed(
          -Infinity,
          -Infinity,
          -1,
          0,
          -2,
          1,
          Infinity,
          2,
          Infinity,
          0,
          -Infinity,
          -Infinity,
          -Infinity,
          -Infinity,
          -Infinity,
        ),
      }),
    },
  }),
  ...(['sum', 'max', 'min'] as const).flatMap((op) => [
    make(op, [5, 33], [1], {
      name: `${op} of integers`,
      dtypes: ['i32', 'u32'],
      inputs: { x: t([5, 33], { values: integers(0, 2 ** 26) }) },
    }),
    make(op, [5, 33], [0], {
      name: `${op} of signed integers`,
      dtypes: ['i32'],
      inputs: { x: t([5, 33], { values: integers(-(2 ** 26), 2 ** 26) }) },
    }),
  ]),
  ...(['max', 'min'] as const).map((op) =>
    make(op, [5, 33], [1], {
      name: `${op} of bytes`,
      dtypes: ['u8'],
      inputs: { x: t([5, 33], { values: integers(0, 256) }) },
    }),
  ),
]);
