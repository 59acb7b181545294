import { defineContract } from '../common/contract.ts';
import type { FloatDType } from '../common/dtype.ts';
import { checkQuant, type QuantAttrs, type QuantViews } from '../common/quant.ts';
import { specOf, type View } from '../common/view.ts';

/** y = the values of a blockwise-quantized tensor: each product and sum rounded to f32, the last one then to `dtype`. */
export interface Dequantize {
  inputs: { weight: QuantViews };
  outputs: { y: View };
  attrs: QuantAttrs & { dtype: FloatDType };
}

export const dequantize = defineContract<Dequantize>({
  name: 'dequantize',
  infer: ({ weight }, attrs) => {
    checkQuant('dequantize', weight, attrs);
    return { y: specOf(attrs.shape, attrs.dtype) };
  },
});
