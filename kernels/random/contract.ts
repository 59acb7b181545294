import { defineContract } from '../common/contract.ts';
import { type DType, isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { specOf, type View } from '../common/view.ts';

/**
 * Philox numbers (`common/philox.ts`): element i takes word `i & 3` of counter `[i >> 2, site, step, stream]`.
 * - `bits`: the raw word (u32)
 * - `uniform`: (word >>> 8) · 2⁻²⁴, in [0, 1)
 * - `normal`: Box–Muller on the words of a pair (2j, 2j+1): u = (w₀ >>> 8 + 1) · 2⁻²⁴, v = (w₁ >>> 8) · 2⁻²⁴,
 *   r = √(−2 ln u); element 2j is r·cos(2πv), element 2j+1 is r·sin(2πv)
 */
export interface Random {
  /** `seed` u32 [4]: seedLo, seedHi, step, stream. */
  inputs: { seed: View };
  outputs: { y: View };
  attrs: { shape: readonly number[]; dtype: DType; distribution: 'bits' | 'uniform' | 'normal'; site: number };
}

export const random = defineContract<Random>({
  kind: 'primitive',
  name: 'random',
  infer: ({ seed }, { shape, dtype, distribution }) => {
    check(
      seed.dtype === 'u32' && seed.shape.length === 1 && seed.shape[0] === 4,
      'random',
      'seed must be u32 [4]',
      () => `[${seed.shape}] ${seed.dtype}`,
    );
    check(
      distribution === 'bits' ? dtype === 'u32' : isFloat(dtype),
      'random',
      'dtype does not fit the distribution',
      `${distribution} into ${dtype}`,
    );
    return { y: specOf(shape, dtype) };
  },
});
