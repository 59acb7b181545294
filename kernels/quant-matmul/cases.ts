import { type CaseInit, defineCases, rowTolerance, spiked, t } from '../common/cases.ts';
import type { QuantType } from '../common/quant.ts';
import { quantOperands } from '../common/quant-cases.ts';
import type { QuantMatmul } from './contract.ts';

const types: readonly QuantType[] = ['nf4', 'fp4', 'int8'];
interface Setup {
  m: number;
  k: number;
  n: number;
  type?: QuantType;
  blockSize?: number;
  nested?: boolean;
  transposed?: boolean;
}
const make = (
  { m, k, n, type = 'nf4', blockSize = 64, nested = true, transposed = false }: Setup,
  rest: Partial<CaseInit<QuantMatmul>> = {},
): CaseInit<QuantMatmul> => {
  const attrs = { quantType: type, blockSize, shape: [n, k], transposed };
  const { inputs, ...others } = rest;
  return {
    name: `${type} ${m}×${k}→${n} by ${blockSize}${nested ? ', nested' : ''}${transposed ? ', transposed' : ''}`,
    inputs: {
      x: t([m, transposed ? n : k]),
      weight: quantOperands(attrs, nested),
      ...inputs,
    } as CaseInit<QuantMatmul>['inputs'],
    attrs,
    ...others,
  };
};

export const cases = defineCases<QuantMatmul>(
  [
    ...[false, true].flatMap((transposed) => [
      ...[0, 1, 2, 7, 33].map((m) => make({ m, k: 64, n: 96, transposed })),
      ...types.flatMap((type) => [
        make({ m: 1, k: 128, n: 67, type, transposed }),
        make({ m: 31, k: 192, n: 33, type, nested: false, transposed }),
        make({ m: 5, k: 127, n: 31, type, transposed }, { dtypes: ['f32', 'bf16'] }), // blocks span rows
      ]),
      make({ m: 9, k: 256, n: 64, blockSize: 128, transposed }, { dtypes: ['f32'] }),
      make({ m: 9, k: 64, n: 130, blockSize: 4096, nested: false, transposed }, { dtypes: ['f32'] }),
      make({ m: 67, k: 576, n: 192, transposed }, { dtypes: ['f32', 'bf16'] }),
      make({ m: 72, k: 128, n: 72, transposed }, { dtypes: ['f16'] }),
    ]),
    ...[1, 7].map((m) =>
      make(
        { m, k: 64, n: 65 },
        {
          name: `specials, ${m} rows`,
          inputs: { x: t([m, 64], { values: spiked({ 3: NaN, 70: Infinity }) }) } as never,
        },
      ),
    ),
    make({ m: 1, k: 1120, n: 37 }),
    make({ m: 3, k: 1088, n: 37 }), // a task that is cut off, a tile that is
    make({ m: 8, k: 1536, n: 21, type: 'fp4', blockSize: 128 }),
    make({ m: 1, k: 640, n: 16, nested: false, blockSize: 4096 }),
    make({ m: 1, k: 2048, n: 21, type: 'fp4', blockSize: 32, nested: false }),
    make(
      { m: 5, k: 64, n: 33 },
      { name: 'row bias', inputs: { c: t([5, 33], { layout: { broadcast: [0] } }) } as never },
    ),
    make({ m: 1, k: 64, n: 33 }, { name: 'row bias of one row', inputs: { c: t([1, 33]) } as never }),
    make({ m: 7, k: 64, n: 65 }, { name: 'added to c', inputs: { c: t([7, 65]) } as never, inplace: true }),
    make(
      { m: 7, k: 64, n: 65, transposed: true },
      { name: 'added to c, transposed', inputs: { c: t([7, 64]) } as never, inplace: true },
    ),
    make(
      { m: 9, k: 64, n: 31 },
      { name: 'sliced', inputs: { x: t([9, 64], { layout: 'sliced' }) } as never, outputs: { y: 'sliced' } },
    ),
    make(
      { m: 9, k: 64, n: 32 },
      { name: 'window', inputs: { x: t([9, 64], { layout: 'window' }) } as never, outputs: { y: 'window' } },
    ),
  ],
  // Weights may be rounded to the half dtype before the product.
  rowTolerance(4e-6, 3),
);
