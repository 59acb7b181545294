import { check } from '../common/error.ts';
import { isFloat } from '../common/dtype.ts';
import { defineContract } from '../common/contract.ts';
import { quantBits, type QuantType } from '../common/quant.ts';
import { describe, isContiguous, sizeOf, specOf, type View } from '../common/view.ts';

/**
 * Blockwise quantization as bitsandbytes does it: absmax[j] = max |x| of block j (f32), code = nearest codebook entry of x · (1/absmax)
 * in f32, by the decision bounds of common/codebooks.ts. Two 4-bit codes a byte, the first in the high nibble; an odd end is padded with the
 * code of 0. `offset` f32 [1] is subtracted from x first (double quantization of absmax). x is read row-major.
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
    const n = sizeOf(x.shape);
    return { codes: specOf([Math.ceil((n * quantBits[quantType]) / 8)], 'u8'), absmax: specOf([Math.ceil(n / blockSize)], 'f32') };
  },
});
