import { type CaseInit, defineCases, rowTolerance, t, unitRoundoff, type Values } from '../common/cases.ts';
import type { RefArray } from '../common/reference.ts';
import { type LoraSetup, linearAttrs, linearInputs, setups } from '../lora-linear/cases.ts';
import type { LoraLinearBackward } from './contract.ts';

/** h = x·Aᵀ side by side, from the operands made before. */
const hidden =
  ({ m, k, layers }: LoraSetup): Values =>
  (_, count, made) => {
    const ranks = layers.map((layer) => layer.r ?? 0);
    const width = ranks.reduce((sum, r) => sum + r, 0);
    const h = new Float64Array(count);
    const x = made.x as RefArray;
    let column = 0;
    ranks.forEach((r, index) => {
      const a = made[`layers.${index}.a`];
      for (let i = 0; a && i < m; i++)
        for (let p = 0; p < r; p++)
          for (let l = 0; l < k; l++) h[i * width + column + p]! += x.data[i * k + l]! * a.data[p * k + l]!;
      column += r;
    });
    return h;
  };

const make = (setup: LoraSetup, needX: boolean): CaseInit<LoraLinearBackward> => {
  const total = setup.layers.reduce((sum, layer) => sum + layer.n, 0);
  const ranks = setup.layers.reduce((sum, layer) => sum + (layer.r ?? 0), 0);
  const layout = setup.layout ?? 'contiguous';
  return {
    name: `${setup.name}${needX ? '' : ', pairs alone'}`,
    ...(setup.dtypes ? { dtypes: setup.dtypes } : {}),
    inputs: {
      x: t([setup.m, setup.k], setup),
      layers: linearInputs(setup),
      h: t([setup.m, ranks], { values: hidden(setup) }), // after x and the pairs: it is made from them
      dy: t([setup.m, total], { layout }),
    } as CaseInit<LoraLinearBackward>['inputs'],
    attrs: { layers: linearAttrs(setup), needX },
    inplace: needX,
    ...(setup.layout && needX ? { outputs: { dx: setup.layout } } : {}),
  };
};

export const cases = defineCases<LoraLinearBackward>(
  [
    ...setups.map((setup) => make(setup, true)),
    ...setups
      .filter(({ name }) => name === '33 rows' || name === 'three layers' || name === 'three nf4 layers')
      .map((setup) => make(setup, false)),
  ],
  // da and db sum over rows: the largest entry of the tensor is the measure.
  (dtype, output) =>
    output === 'dx'
      ? rowTolerance(4e-6, 4)(dtype)
      : { all: 1e-5 + (dtype === 'f16' || dtype === 'bf16' ? 4 * unitRoundoff[dtype] : 0) },
);
