import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, specOf, type View } from '../common/view.ts';

/**
 * y = u ≥ p ? x/(1−p) : 0, compared in f32, with u the `uniform` of op `random` at the same element (row-major index), site and seed.
 * The same call on dy is the backward pass: no mask is stored.
 */
export interface Dropout {
  inputs: { x: View; seed: View };
  outputs: { y: View };
  attrs: { p: number; site: number };
}

export const dropout = defineContract<Dropout>({
  name: 'dropout',
  inplace: [['y', 'x']],
  infer: ({ x, seed }, { p }) => {
    check(isFloat(x.dtype), 'dropout', 'needs floats', () => describe(x));
    check(seed.dtype === 'u32' && seed.shape[0] === 4, 'dropout', 'seed must be u32 [4]', () => describe(seed));
    check(p >= 0 && p < 1, 'dropout', 'p must be in [0, 1)', String(p));
    return { y: specOf(x.shape, x.dtype) };
  },
});
