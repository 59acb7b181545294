import { type CaseInit, defineCases, listed, normal, of, t, type Values } from '../common/cases.ts';
import { codebooks, fp4Bounds, nf4Bounds } from '../common/codebooks.ts';
import type { QuantType } from '../common/quant.ts';
import type { Quantize } from './contract.ts';

const types: readonly QuantType[] = ['nf4', 'fp4', 'int8'];
const make = (
  quantType: QuantType,
  name: string,
  shape: readonly number[],
  blockSize: number,
  values: Values = normal(),
  rest: Partial<CaseInit<Quantize>> = {},
): CaseInit<Quantize> => ({
  name: `${quantType} ${name}`,
  inputs: {
    x: t(shape, { values }),
    codebook: of('f32', [codebooks[quantType].length], listed(...codebooks[quantType])),
  },
  attrs: { quantType, blockSize },
  dtypes: ['f32'],
  ...rest,
});
/** Every bound and codebook value, with the f32 on either side of it; a 1 in each block of 32 makes the scale 1. */
const edges = [...nf4Bounds, ...fp4Bounds, ...codebooks.fp4].flatMap((v) => [
  v,
  v * (1 + 2 ** -23),
  v * (1 - 2 ** -23),
]);
const atEdges: Values = (_, n) =>
  Float64Array.from({ length: n }, (_, i) => (i % 32 === 0 ? 1 : Math.max(-1, Math.min(1, edges[i % edges.length]!))));

export const cases = defineCases<Quantize>(
  types.flatMap((type) => [
    ...[0, 1, 31, 63, 64, 65, 127].map((n) => make(type, `n=${n}`, [n], 64)),
    make(type, 'rows', [33, 67], 64, normal(0.05), { dtypes: ['f32', 'f16', 'bf16'] }),
    ...[32, 128, 256, 4096].map((blockSize) => make(type, `blocks of ${blockSize}`, [5, 1021], blockSize)),
    make(type, 'zeros', [200], 64, listed(0)),
    make(type, 'constant', [200], 64, listed(-3)),
    make(type, 'huge', [200], 64, normal(1e30)),
    make(type, 'small', [200], 64, normal(1e-30)),
    make(type, 'subnormal', [200], 64, normal(1e-40)),
    make(type, 'edges', [4096], 32, atEdges),
    make(type, 'less an offset', [300], 256, normal(0.1, 1), {
      inputs: {
        x: t([300], { values: normal(0.1, 1) }),
        codebook: of('f32', [codebooks[type].length], listed(...codebooks[type])),
        offset: of('f32', [1], listed(1.03)),
      },
    }),
  ]),
);
