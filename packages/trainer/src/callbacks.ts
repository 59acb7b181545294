import type { MemoryStatistics } from '@lowrank/tensor';
import type { Evaluation } from './loop/evaluate.ts';

/** Where a step stands; its results are not read yet. */
export interface StepInfo {
  /** From 1. */
  readonly step: number;
  readonly totalSteps: number;
  /** Passes over the data so far, with the part of the current one. */
  readonly epoch: number;
  readonly learningRate: number;
  /** Tokens that are no padding. */
  readonly inputTokens: number;
  /** Labels that count. */
  readonly tokens: number;
}

/** A step with its results. */
export interface StepRecord extends StepInfo {
  /** Mean over the labels of the step that count. */
  readonly loss: number;
  /** Norm of all gradients before clipping. */
  readonly gradNorm: number;
  /** Of input tokens, over the steps that were read together. */
  readonly tokensPerSecond: number;
  /** Since the run (or its resumption) began. */
  readonly seconds: number;
  readonly memory: MemoryStatistics;
}

export interface EvaluationRecord extends Evaluation {
  readonly step: number;
  readonly epoch: number;
  /** The lowest loss so far. */
  readonly best: boolean;
}

/** What a run reports. A callback that returns a promise is waited for, and its error ends the run. */
export interface Callbacks {
  /** After a step was enqueued. */
  readonly onStep?: ((info: StepInfo) => void | Promise<void>) | undefined;
  /** For every step, once its loss was read. */
  readonly onLog?: ((record: StepRecord) => void | Promise<void>) | undefined;
  readonly onEvaluate?: ((record: EvaluationRecord) => void | Promise<void>) | undefined;
  readonly onSave?: ((saved: { readonly step: number; readonly where: string }) => void | Promise<void>) | undefined;
}

/** How a run ended. */
export interface TrainResult {
  readonly stopped: 'finished' | 'early' | 'aborted';
  /** Steps done, and passes over the data, in all. */
  readonly step: number;
  readonly epoch: number;
  /** Of the last step. */
  readonly loss: number;
  /** Tokens without padding, in this call of `train`. */
  readonly inputTokens: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
  /** The lowest evaluation loss. */
  readonly best: { readonly step: number; readonly loss: number } | undefined;
  readonly memory: MemoryStatistics;
  /** The checkpoint it ended with. */
  readonly checkpoint: string | undefined;
}
