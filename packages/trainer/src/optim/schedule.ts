import { check } from '@lowrank/tensor';

/** How the learning rate goes on after the warm-up: by name, or its factor as a function of the step (from 0). */
export type Schedule = 'constant' | 'linear' | 'cosine' | ((step: number, totalSteps: number) => number);

/** Schedules by name. */
export const schedules = ['constant', 'linear', 'cosine'] as const satisfies readonly Schedule[];

/**
 * The factor of the learning rate at a step (from 0) of a run of `total` steps, as transformers' schedulers give it: up from 0 over
 * `warmup` steps; then constant, or down to 0 in a line or along half a cosine.
 */
export function scheduleFactor(kind: Schedule, step: number, total: number, warmup: number): number {
  if (step < warmup) return step / Math.max(1, warmup);
  if (typeof kind === 'function') return kind(step, total);
  if (kind === 'constant') return 1;
  const progress = (step - warmup) / Math.max(1, total - warmup);
  if (kind === 'linear') return Math.max(0, 1 - progress);
  check(kind === 'cosine', 'train', 'unknown schedule', String(kind), `Known: ${schedules.join(', ')}`);
  return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** The learning rate of a step (from 0). A warm-up below 1 is a share of all steps. */
export function learningRateAt(
  { learningRate, lrScheduler, warmupSteps }: { learningRate: number; lrScheduler: Schedule; warmupSteps: number },
  step: number,
  total: number,
): number {
  const warmup = warmupSteps < 1 ? Math.ceil(warmupSteps * total) : warmupSteps;
  return learningRate * scheduleFactor(lrScheduler, step, total, warmup);
}
