import { defineContract } from '../common/contract.ts';
import type { DType } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { specOf, type View } from '../common/view.ts';

/** y[…, i, …] = start + step · i, where i is the index along `axis`; integers take it truncated toward zero. */
export interface Iota {
  inputs: Record<never, never>;
  outputs: { y: View };
  attrs: { shape: readonly number[]; dtype: DType; axis: number; start: number; step: number };
}

export const iota = defineContract<Iota>({
  kind: 'primitive',
  name: 'iota',
  infer: (_, { shape, dtype, axis }) => {
    check(axis >= 0 && axis < shape.length, 'iota', 'axis out of range', () => `axis ${axis}, shape [${shape}]`);
    return { y: specOf(shape, dtype) };
  },
});
