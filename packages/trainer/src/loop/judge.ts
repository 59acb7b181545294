import { notFinite } from '../anomaly.ts';
import type { Resolved } from '../options.ts';
import type { TrainerState } from '../state.ts';
import type { Evaluation } from './evaluate.ts';

/** Notes an evaluation: what is best so far, and for how long nothing was better. True where it is the best. */
export async function judge(o: Resolved, state: TrainerState, result: Evaluation, epoch: number): Promise<boolean> {
  const { step, best: before } = state;
  if (!Number.isFinite(result.loss)) {
    const anomaly = await o.anomalies?.first();
    throw notFinite('evaluation loss', result.loss, step, anomaly, o.anomalies !== undefined);
  }
  const best = before === undefined || result.loss < before.loss;
  const better = before === undefined || result.loss < before.loss - (o.earlyStopping?.minDelta ?? 0);
  state.stale = better ? 0 : state.stale + 1;
  if (best) state.best = { step, loss: result.loss };
  state.evaluations.push({ step, loss: result.loss, tokens: result.tokens });
  const record = { ...result, step, epoch, best };
  await o.metrics?.write({ event: 'evaluation', ...record });
  await o.onEvaluate?.(record);
  return best;
}
