import { type CaseInit, defineCases } from '../common/cases.ts';
import type { QuantType } from '../common/quant.ts';
import { quantOperands } from '../common/quant-cases.ts';
import type { Dequantize } from './contract.ts';

const types: readonly QuantType[] = ['nf4', 'fp4', 'int8'];
const make = (
  quantType: QuantType,
  shape: readonly number[],
  blockSize: number,
  nested: boolean,
  rest: Partial<CaseInit<Dequantize>> = {},
): CaseInit<Dequantize> => ({
  name: `${quantType} [${shape}] by ${blockSize}${nested ? ', nested' : ''}`,
  inputs: { weight: quantOperands({ quantType, blockSize, shape }, nested) },
  attrs: (dtype) => ({ quantType, blockSize, shape, dtype: dtype as 'f32' }),
  ...rest,
});

export const cases = defineCases<Dequantize>(
  types.flatMap((type) => [
    ...[0, 1, 31, 64, 65, 127].map((n) => make(type, [n], 64, false, { dtypes: ['f32'] })),
    make(type, [33, 67], 64, false),
    make(type, [32, 96], 64, true),
    make(type, [7, 31], 32, true, { dtypes: ['f32', 'bf16'] }),
    make(type, [5, 1021], 4096, false, { dtypes: ['f32'] }),
    make(type, [130, 257], 128, true, { dtypes: ['f32', 'bf16'] }), // absmax of more than 256 blocks
    make(type, [9, 64], 64, true, { name: `${type} into a window`, outputs: { y: 'window' } }),
  ]),
);
