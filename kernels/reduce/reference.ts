import { isFloat } from '../common/dtype.ts';
import { roundTo } from '../common/half.ts';
import { defineReference, eachIndex, zeros } from '../common/reference.ts';
import { contiguousStrides } from '../common/view.ts';
import type { Reduce } from './contract.ts';

export const reference = defineReference<Reduce>(({ x }, { op, axes, dtype }) => {
  const shape = x.shape.map((d, axis) => (axes.includes(axis) ? 1 : d));
  const y = zeros(shape, op === 'argmax' ? 'i32' : (dtype ?? x.dtype));
  const strides = contiguousStrides(shape);
  const best = new Float64Array(y.data.length); // argmax: the largest value so far
  const seen = new Uint8Array(y.data.length);
  eachIndex(x.shape, (index, i) => {
    let at = 0;
    index.forEach((k, axis) => {
      if (!axes.includes(axis)) at += k * strides[axis]!;
    });
    const v = x.data[i]!;
    const first = !seen[at];
    seen[at] = 1;
    const so = y.data[at]!;
    if (op === 'sum') y.data[at] = so + v;
    else if (op === 'sumSquares') y.data[at] = so + v * v;
    else if (op === 'max')
      y.data[at] = first ? v : Math.max(so, v); // Math.max: NaN wins
    else if (op === 'min') y.data[at] = first ? v : Math.min(so, v);
    else if (first || v > best[at]!) {
      best[at] = v;
      y.data[at] = index[axes[0]!]!;
    }
  });
  if (!isFloat(y.dtype)) y.data.set(y.data.map((v) => roundTo(v, y.dtype)));
  return { y };
});
