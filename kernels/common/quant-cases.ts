import { integers, listed, type Operand, of, uniform } from './cases.ts';
import { codebooks, dynamicMap } from './codebooks.ts';
import { nestedBlockSize, type QuantAttrs, type QuantViews, quantBits } from './quant.ts';
import { sizeOf } from './view.ts';

type QuantOperands = { [K in keyof QuantViews]: Operand };

/** A quantized weight of random codes; values are about ±0.05. `nested`: double-quantized absmax. */
export function quantOperands({ quantType, blockSize, shape }: QuantAttrs, nested = false): QuantOperands {
  const n = sizeOf(shape);
  const blocks = Math.ceil(n / blockSize);
  const book = codebooks[quantType];
  const base = {
    codes: of('u8', [Math.ceil((n * quantBits[quantType]) / 8)], integers(0, 256)),
    codebook: of('f32', [book.length], listed(...book)),
  };
  if (!nested) return { ...base, absmax: of('f32', [blocks], uniform(0.02, 0.08)) };
  return {
    ...base,
    absmax: of('u8', [blocks], integers(0, 256)),
    nestedAbsmax: of('f32', [Math.ceil(blocks / nestedBlockSize)], uniform(0.01, 0.03)),
    nestedCodebook: of('f32', [256], listed(...dynamicMap)),
    offset: of('f32', [1], listed(0.05)),
  };
}
