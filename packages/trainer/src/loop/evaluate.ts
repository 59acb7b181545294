import { check, type Device, keep, noGrad, type Tensor } from '@lowrank/tensor';
import { type Dataset, ignored } from '../data/dataset.ts';
import { BatchPlan } from '../data/plan.ts';
import { checkIds, type TrainableModel } from '../model.ts';
import { Pacer } from '../pause.ts';
import { batchLoss } from './forward.ts';
import { withInputs } from './inputs.ts';

export interface Evaluation {
  /** Mean of −ln p over the tokens that count. */
  readonly loss: number;
  /** e^loss */
  readonly perplexity: number;
  /** Tokens that count. */
  readonly tokens: number;
  readonly samples: number;
}

export interface EvaluateOptions {
  readonly batchSize?: number;
  /** Rows whose logits exist at a time. */
  readonly chunkRows?: number | undefined;
  readonly onProgress?: (samples: number, of: number) => void;
}

/** Tokens of the longest row that evaluating `data` makes. */
export function evaluationRow(data: Dataset): number {
  return new BatchPlan(data, { batchSize: 1, shuffle: false }).longestRow;
}

/** Losses that stay on the device until they are read together. */
const readEvery = 64;

/**
 * The loss of a model on data, every sample once, without gradients and without dropout. Batches hold samples of about one length.
 * Leaves the model out of training mode.
 */
export async function evaluate(
  device: Device,
  model: TrainableModel,
  data: Dataset,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { batchSize = 8, chunkRows, onProgress } = options;
  const byLength = data.samples
    .map((_, i) => i)
    .sort((a, b) => data.samples[b]!.ids.length - data.samples[a]!.ids.length || a - b);
  const plan = new BatchPlan(data, { batchSize, shuffle: false });
  const pacer = new Pacer();
  let waiting: Tensor[] = [];
  let sum = 0;
  let tokens = 0;
  const settle = async () => {
    const losses = waiting;
    waiting = [];
    for (const value of await Promise.all(losses.map((l) => l.item()))) sum += value;
    for (const l of losses) l.dispose();
  };
  checkIds(model, data);
  check(
    data.samples.some(({ labels }) => labels.some((label, i) => i > 0 && label !== ignored)),
    'evaluate',
    'no label counts',
    () => `${data.length} samples`,
    'Evaluate on samples with labels that are not masked',
  );
  model.setTraining?.(false);
  model.prepare?.(plan.longestRow);
  try {
    for (let at = 0; at < byLength.length; at += batchSize) {
      const batch = plan.collate(byLength.slice(at, at + batchSize).map((i) => [i]));
      waiting.push(keep(noGrad(() => withInputs(device, batch, (inputs) => batchLoss(model, inputs, { chunkRows })))));
      tokens += batch.tokens;
      onProgress?.(Math.min(at + batchSize, byLength.length), byLength.length);
      if (waiting.length >= readEvery) await settle();
      await pacer.breathe();
    }
    await settle();
  } finally {
    for (const l of waiting) l.dispose();
  }
  const loss = sum / tokens;
  return { loss, perplexity: Math.exp(loss), tokens, samples: data.length };
}
