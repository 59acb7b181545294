import { Linear, type Module, type Tensor } from '@lowrank/tensor';
import type { TrainedCopy } from './copies.ts';

/** How much of a model trains. */
export interface Counts {
  readonly trainable: number;
  readonly total: number;
  /** trainable / total */
  readonly share: number;
}

/**
 * Numbers as PEFT counts them: a quantized weight by its values, not its bytes; tied tables once; whole copies beside what they stand in
 * for (`replaced`: what the copies in place stand in for); biases, which PEFT trains in place, once.
 */
export function count(
  model: Module,
  trained: readonly Tensor[],
  copies: readonly TrainedCopy[],
  replaced: readonly Tensor[],
): Counts {
  const sizes = (tensors: readonly Tensor[]) => tensors.reduce((sum, t) => sum + t.size, 0);
  const trainable = sizes(trained);
  let total = trainable - sizes(copies.flatMap(({ kind, tensor }) => (kind === 'bias' ? tensor : [])));
  const seen = new Set(copies.map(({ tensor }) => tensor));
  const add = (t: Tensor) => {
    if (!seen.has(t)) total += t.size;
    seen.add(t);
  };
  for (const t of replaced) add(t);
  for (const [, m] of model.namedModules())
    if (m instanceof Linear && !('weight' in m.weight.operand())) {
      total += m.inFeatures * m.outFeatures;
      if (m.bias) add(m.bias);
    } else for (const t of m.own().values()) add(t);
  return { trainable, total, share: trainable / total };
}
