import { defineContract } from '../common/contract.ts';
import { type FloatDType, isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';

/**
 * y[…,m,n] = alpha · Σₖ a[…,m,k] · b[…,k,n] + beta · c[…,m,n]. Transposes are strides; broadcast batch axes have stride 0;
 * a row bias is `c` with stride 0 over m. Operands may differ in float dtype; products accumulate in f32; y is of `dtype`
 * (a's by default). `c` may be y itself. alpha and beta are 1 where absent.
 */
export interface Matmul {
  inputs: { a: View; b: View; c?: View };
  outputs: { y: View };
  attrs: { alpha?: number; beta?: number; dtype?: FloatDType };
}

export const matmul = defineContract<Matmul>({
  kind: 'primitive',
  name: 'matmul',
  inplace: [['y', 'c']],
  infer: ({ a, b, c }, { dtype }) => {
    const facts = () => `a ${describe(a)}, b ${describe(b)}${c ? `, c ${describe(c)}` : ''}`;
    check(isFloat(a.dtype) && isFloat(b.dtype), 'matmul', 'needs floats', facts);
    check(
      a.shape.length >= 2 && a.shape.length === b.shape.length,
      'matmul',
      'operands need the same number of axes, at least 2',
      facts,
    );
    const n = a.shape.length;
    const inner = a.shape[n - 1]!;
    check(
      inner === b.shape[n - 2],
      'matmul',
      'inner sizes differ',
      () => `${facts()} (${inner} vs ${b.shape[n - 2]})`,
      inner === b.shape[n - 1] ? 'Did you mean b.transpose()?' : '',
    );
    check(sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), 'matmul', 'batch axes differ', facts);
    const shape = [...a.shape.slice(0, -1), b.shape[n - 1]!];
    check(
      !c || (sameShape(c.shape, shape) && isFloat(c.dtype)),
      'matmul',
      'c must have the shape of the result',
      facts,
    );
    return { y: specOf(shape, dtype ?? a.dtype) };
  },
});
