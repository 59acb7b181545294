import type { Resolved } from '../options.ts';
import { AdamW } from './adamw.ts';
import type { Optimizer } from './optimizer.ts';
import type { Parameters } from './parameters.ts';
import { Sgd } from './sgd.ts';

/** The optimizer that the options ask for. Where they cannot be meant, the parameters are let go as well. */
export function createOptimizer(o: Pick<Resolved, 'optimizer' | 'weightDecay'>, parameters: Parameters): Optimizer {
  const { kind, ...rest } = { ...o.optimizer, weightDecay: o.weightDecay };
  try {
    return kind === 'sgd' ? new Sgd(parameters, rest) : new AdamW(parameters, rest);
  } catch (error) {
    parameters.dispose();
    throw error;
  }
}
