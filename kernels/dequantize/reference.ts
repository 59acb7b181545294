import type { MapOperands } from '../common/contract.ts';
import { roundTo } from '../common/half.ts';
import { nestedBlockSize, type QuantAttrs, type QuantViews, quantBits } from '../common/quant.ts';
import { defineReference, type RefArray, zeros } from '../common/reference.ts';
import { sizeOf } from '../common/view.ts';
import type { Dequantize } from './contract.ts';

const f = Math.fround;

/** The f32 values of a quantized tensor, row-major, with every product and sum rounded to f32. */
export function dequantized(
  { codes, absmax, codebook, nestedAbsmax, nestedCodebook, offset }: MapOperands<QuantViews, RefArray>,
  { quantType, blockSize, shape }: QuantAttrs,
): Float64Array {
  const scales = absmax.data.map((a, j) =>
    nestedAbsmax && nestedCodebook && offset
      ? f(f(nestedCodebook.data[a]! * nestedAbsmax.data[Math.floor(j / nestedBlockSize)]!) + offset.data[0]!)
      : a,
  );
  return Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    const byte = codes.data[quantBits[quantType] === 8 ? i : i >> 1]!;
    const code = quantBits[quantType] === 8 ? byte : i % 2 ? byte & 15 : byte >> 4;
    return f(codebook.data[code]! * scales[Math.floor(i / blockSize)]!);
  });
}

export const reference = defineReference<Dequantize>(({ weight }, attrs) => {
  const y = zeros(attrs.shape, attrs.dtype);
  y.data.set(dequantized(weight, attrs).map((v) => roundTo(v, attrs.dtype)));
  return { y };
});
