import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { checkBlockSize, type QuantType, quantBits } from '../common/quant.ts';
import { describe, isContiguous, sizeOf, specOf, type View } from '../common/view.ts';

/**
 * Blockwise quantization, byte for byte as bitsandbytes' CPU path; every step rounds to f32. `offset` f32 [1] is subtracted from x first
 * (double quantization of absmax). absmax[j] = max |x| of block j; z = x scaled and clamped to [−1, 1]. x is read row-major.
 * - nf4, fp4: z = x · (1/d) with d = max(absmax, 1e-38) in whole blocks; in a short block at the end z = x / d, and d is stored as its
 *   absmax. Codes by the bounds of common/codebooks.ts (`codebook` is not read); two a byte, the first in the high nibble; an odd end is
 *   padded with the code of 0.
 * - int8: z = x · (1/absmax); bin = trunc((z + 1) · 0.5 · 65535 + 0.5); the code is the number of midpoints 0.5·(codebook[i] +
 *   codebook[i+1]) that are smaller than −1 + 2·bin/65535. A block of zeros has code 0 everywhere.
 */
export interface Quantize {
  inputs: { x: View; codebook: View; offset?: View };
  outputs: { codes: View; absmax: View };
  attrs: { quantType: QuantType; blockSize: number };
}

export const quantize = defineContract<Quantize>({
  name: 'quantize',
  infer: ({ x }, { quantType, blockSize }) => {
    check(isFloat(x.dtype) && isContiguous(x), 'quantize', 'x must be contiguous floats', () => describe(x));
    checkBlockSize('quantize', blockSize);
    const n = sizeOf(x.shape);
    return {
      codes: specOf([Math.ceil((n * quantBits[quantType]) / 8)], 'u8'),
      absmax: specOf([Math.ceil(n / blockSize)], 'f32'),
    };
  },
});
