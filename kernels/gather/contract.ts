import { defineContract } from '../common/contract.ts';
import type { DType } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, specOf, type View } from '../common/view.ts';

/** y[i…, :] = table[ids[i…], :], cast to `dtype` if given. ids (i32 or u32) outside [0, rows) give zeros. table [rows, …]. */
export interface Gather {
  inputs: { table: View; ids: View };
  outputs: { y: View };
  attrs: { dtype?: DType };
}

export const gather = defineContract<Gather>({
  kind: 'primitive',
  name: 'gather',
  infer: ({ table, ids }, { dtype }) => {
    check(table.shape.length >= 1, 'gather', 'table needs an axis', () => describe(table));
    check(ids.dtype === 'i32' || ids.dtype === 'u32', 'gather', 'ids must be i32 or u32', ids.dtype);
    return { y: specOf([...ids.shape, ...table.shape.slice(1)], dtype ?? table.dtype) };
  },
});
