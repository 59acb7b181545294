import { type DType, isFloat } from '../common/dtype.ts';
import { roundTo } from '../common/half.ts';
import { defineReference, mapArray } from '../common/reference.ts';
import type { Binary } from './contract.ts';
import { binaryOps } from './table.ts';

export const reference = defineReference<Binary>(({ a, b }, { op }) => {
  const { js, kind } = binaryOps[op];
  const dtype: DType = kind === 'compare' ? 'u8' : a.dtype;
  // The low 32 bits of a product of integers need more than f64 has.
  const f = op === 'mul' && !isFloat(a.dtype) ? Math.imul : js;
  return {
    y: mapArray(
      a,
      (v, i) => {
        const y = f(v, b.data[i]!);
        return isFloat(dtype) ? y : roundTo(Math.trunc(y), dtype);
      },
      dtype,
    ),
  };
});
