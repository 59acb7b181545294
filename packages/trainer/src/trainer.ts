import { check } from '@lowrank/tensor';
import type { StepInfo, TrainResult } from './callbacks.ts';
import type { Dataset } from './data/dataset.ts';
import { BatchPlan } from './data/plan.ts';
import { type Evaluation, evaluate, evaluationRow } from './loop/evaluate.ts';
import { judge } from './loop/judge.ts';
import { Reporter } from './loop/reporter.ts';
import { Saver } from './loop/saver.ts';
import { Step } from './loop/step.ts';
import { checkIds, checkLearnable } from './model.ts';
import { createOptimizer } from './optim/create.ts';
import type { Optimizer } from './optim/optimizer.ts';
import { Parameters } from './optim/parameters.ts';
import { learningRateAt } from './optim/schedule.ts';
import { type Resolved, resolve, settingsOf, type TrainerOptions } from './options.ts';
import { Pacer } from './pause.ts';
import { freshState, type TrainerState } from './state.ts';

/** Trains the parameters of a model on a data set. It sees parameters, never adapters. Dispose it before the model and the device. */
export class Trainer implements Disposable {
  readonly options: Resolved;
  readonly plan: BatchPlan;
  readonly parameters: Parameters;
  readonly optimizer: Optimizer;
  readonly totalSteps: number;
  readonly state: TrainerState;
  readonly #step: Step;
  readonly #reporter: Reporter;
  readonly #saver: Saver;
  readonly #pacer = new Pacer();
  #prepared = 0;

  /** Makes gradients and optimizer state; parameters may move into one buffer. Throws on settings that cannot be meant. */
  constructor(options: TrainerOptions) {
    const o = resolve(options);
    this.options = o;
    checkIds(o.model, o.data);
    checkLearnable(o.data);
    this.plan = new BatchPlan(o.data, o);
    this.totalSteps = o.maxSteps ?? this.plan.stepsOf(o.numEpochs);
    this.parameters = new Parameters(o.device, o.model.parameters(), o);
    this.optimizer = createOptimizer(o, this.parameters);
    this.state = freshState(settingsOf(o, this.plan, this.parameters.count));
    this.#step = new Step({ ...o, parameters: this.parameters, optimizer: this.optimizer });
    this.#reporter = new Reporter(o, this.state);
    this.#saver = new Saver(o, this.state, this.parameters, this.optimizer);
  }

  /** Runs to the end, from where the state is. */
  async train(): Promise<TrainResult> {
    const { options: o, state } = this;
    const tokensBefore = state.inputTokens;
    const due = (every: number | undefined) => every !== undefined && state.step % every === 0;
    let stopped: TrainResult['stopped'] | undefined;
    try {
      this.#prepare(Math.max(this.plan.longestRow, o.evalData ? evaluationRow(o.evalData) : 0));
      o.model.setTraining?.(true);
      await this.#saver.begin();
      await this.#reporter.begin();
      while (!stopped) {
        if (state.step >= this.totalSteps) stopped = 'finished';
        else if (o.earlyStopping && state.stale >= o.earlyStopping.patience) stopped = 'early';
        else if (!(await this.#trainStep())) stopped = 'aborted';
        else {
          if (due(o.loggingSteps) || this.#reporter.full) await this.#reporter.read();
          if (due(o.evalSteps)) await this.#judge();
          if (due(o.saveSteps) && state.step < this.totalSteps) await this.save();
          await this.#pacer.breathe();
        }
      }
      await this.#reporter.settle();
      if (stopped !== 'aborted' && o.evalData && state.evaluations.at(-1)?.step !== state.step) await this.#judge();
      if (o.checkpoints && this.#saver.last?.step !== state.step) await this.save();
      if (stopped !== 'aborted' && o.loadBestAtEnd) await this.#saver.loadBest();
    } finally {
      o.model.setTraining?.(false);
      await o.metrics?.close?.();
    }
    return this.#result(stopped, state.inputTokens - tokensBefore);
  }

  #result(stopped: TrainResult['stopped'], inputTokens: number): TrainResult {
    const { step, history, best } = this.state;
    const { seconds } = this.#reporter;
    const [epoch, loss] = [this.#epoch(), history.at(-1)?.loss ?? Number.NaN];
    const memory = this.options.device.memory();
    const checkpoint = this.#saver.last?.where;
    return {
      stopped,
      step,
      epoch,
      loss,
      inputTokens,
      tokensPerSecond: inputTokens / seconds,
      seconds,
      best,
      memory,
      checkpoint,
    };
  }

  /** One optimizer step; false when the run is to stop before it is whole. */
  async #trainStep(): Promise<boolean> {
    const { options: o, state, plan } = this;
    const batches = plan.step(state.epoch, state.position);
    const tokens = batches.reduce((sum, b) => sum + b.tokens, 0);
    this.#step.begin(tokens);
    for (const [i, batch] of batches.entries()) {
      if (o.signal?.aborted) {
        this.#step.abandon();
        return false;
      }
      this.#step.addBatch(batch, state.step * o.gradientAccumulationSteps + i);
      await this.#pacer.breathe();
    }
    const learningRate = learningRateAt(o, state.step, this.totalSteps);
    this.#step.finish(++state.step, learningRate);
    if (++state.position >= plan.steps(state.epoch)) {
      state.epoch++;
      state.position = 0;
    }
    const inputTokens = batches.reduce((sum, b) => sum + b.inputTokens, 0);
    state.tokens += tokens;
    state.inputTokens += inputTokens;
    const { step } = state;
    const info: StepInfo = {
      step,
      totalSteps: this.totalSteps,
      epoch: this.#epoch(),
      learningRate,
      inputTokens,
      tokens,
    };
    this.#reporter.push(this.#step.result, info);
    await o.onStep?.(info);
    return true;
  }

  #epoch(): number {
    const { epoch, position } = this.state;
    return position === 0 ? epoch : epoch + position / this.plan.steps(epoch);
  }

  /** The mean loss over the tokens of `data` (the evaluation data) that count. Leaves the model out of training mode. */
  async evaluate(data: Dataset | undefined = this.options.evalData): Promise<Evaluation> {
    const { device, model, evalBatchSize, chunkRows } = this.options;
    check(data, 'evaluate', 'no data', '', 'Give data, or evalData to the trainer');
    this.#prepare(evaluationRow(data));
    return evaluate(device, model, data, { batchSize: evalBatchSize, chunkRows });
  }

  /** Evaluates in the course of training. */
  async #judge(): Promise<void> {
    const { options: o, state } = this;
    await this.#reporter.settle();
    const result = await this.evaluate();
    o.model.setTraining?.(true);
    if ((await judge(o, state, result, this.#epoch())) && o.loadBestAtEnd) await this.save();
  }

  /** Saves a checkpoint of the steps done so far; gives its place. */
  async save(): Promise<string> {
    await this.#reporter.settle();
    return this.#saver.save();
  }

  /**
   * Goes on from a checkpoint: `train` then does what a run never stopped would have done, bit for bit. Gives the checkpoint's step, or
   * undefined where there is none.
   */
  resume(which: 'latest' | 'best' | number = 'latest'): Promise<number | undefined> {
    return this.#saver.resume(which);
  }

  /** Drops recorded steps: call it after the model changed (other adapters set, longer rotation tables made). */
  forget(): void {
    this.#step.forget();
  }

  /** How many shapes' steps are recorded now, or why none is. */
  get recorded(): number | string {
    return this.#step.recorded;
  }

  /** What the model makes for longer rows, recorded steps do not know. */
  #prepare(length: number): void {
    if (length <= this.#prepared) return;
    this.#step.forget();
    this.options.model.prepare?.(length);
    this.#prepared = length;
  }

  dispose(): void {
    for (const part of [this.#step, this.#reporter, this.optimizer, this.parameters]) part[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
