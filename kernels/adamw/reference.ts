import { defineReference, mapArray } from '../common/reference.ts';
import type { Adamw } from './contract.ts';

export const reference = defineReference<Adamw>((inputs, { beta1, beta2, eps }) => {
  const { g, hyper, gradScale } = inputs;
  const [lr, weightDecay, correction1, rootCorrection2] = hyper.data as unknown as [number, number, number, number];
  const p = mapArray(inputs.p, (x) => x);
  const m = mapArray(inputs.m, (x) => x);
  const v = mapArray(inputs.v, (x) => x);
  for (let i = 0; i < p.data.length; i++) {
    const gi = g.data[i]! * (gradScale ? gradScale.data[0]! : 1);
    const mi = m.data[i]! + (gi - m.data[i]!) * (1 - beta1);
    const vi = beta2 * v.data[i]! + (1 - beta2) * gi * gi;
    m.data[i] = mi;
    v.data[i] = vi;
    p.data[i] =
      p.data[i]! * (1 - lr * weightDecay) - ((lr / correction1) * mi) / (Math.sqrt(vi) / rootCorrection2 + eps);
  }
  return { p, m, v };
});
