import { bytesOf, gather, linearCrossEntropy, type RecomputePolicy, reshape, type Tensor } from '@lowrank/tensor';
import type { TrainableModel } from '../model.ts';
import type { BatchInputs } from './inputs.ts';

export interface LossOptions {
  readonly recompute?: RecomputePolicy | undefined;
  readonly offload?: boolean | undefined;
  /** Rows whose logits exist at a time. */
  readonly chunkRows?: number | undefined;
  /** f32 [1] */
  readonly scale?: Tensor;
}

/** Logits of a chunk take this much by default; fewer rows than these are never taken, since the head's product would starve. */
const chunk = { bytes: 64 << 20, rows: 256 } as const;

function defaultRows({ vocabSize }: TrainableModel, { dtype }: Tensor): number {
  const fit = vocabSize ? Math.floor(chunk.bytes / (vocabSize * bytesOf[dtype] * chunk.rows)) * chunk.rows : 0;
  return Math.max(chunk.rows, fit);
}

/** Σ scale · −ln p(label) over a batch's labels that count: a scalar. Logits exist for a chunk of rows at a time, and for no other rows. */
export function batchLoss(model: TrainableModel, inputs: BatchInputs, options: LossOptions = {}): Tensor {
  const { recompute, offload, scale } = options;
  const { ids, positions, starts, rows, labels } = inputs;
  const hidden = model.hidden(ids, {
    positions,
    ...(starts ? { starts } : {}),
    ...(recompute ? { recompute } : {}),
    ...(offload ? { offload } : {}),
  });
  const flat = reshape(hidden, [-1, hidden.shape[hidden.rank - 1]!]);
  hidden.dispose();
  const seen = rows ? gather(flat, rows) : flat;
  if (rows) flat.dispose();
  const chunkRows = options.chunkRows ?? defaultRows(model, seen);
  const loss = linearCrossEntropy(seen, (r) => model.head(r), labels, { scale, chunkRows });
  // what the backward pass reads, the graph holds
  seen.dispose();
  return loss;
}
