import { castValue } from '../cast/reference.ts';
import { isFloat } from '../common/dtype.ts';
import { defineReference, mapArray } from '../common/reference.ts';
import type { Unary } from './contract.ts';
import { unaryOps } from './table.ts';

export const reference = defineReference<Unary>(({ x }, { op, p = 0, q = 0 }) => {
  const { js } = unaryOps[op];
  return {
    y: mapArray(x, (v) => {
      const y = js(v, p, q);
      return isFloat(x.dtype) ? y : castValue(y, 'f32', x.dtype);
    }),
  };
});
