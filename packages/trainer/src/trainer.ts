import type { MemoryStatistics } from '@lowrank/tensor';
import type { EvaluationRecord, StepInfo } from './callbacks.ts';
import { type Checkpoint, restore } from './checkpoint.ts';
import type { Dataset } from './data/dataset.ts';
import { BatchPlan } from './data/plan.ts';
import { type Evaluation, evaluate } from './loop/evaluate.ts';
import { Reporter } from './loop/reporter.ts';
import { Step } from './loop/step.ts';
import { AdamW } from './optim/adamw.ts';
import { entryOf } from './optim/entries.ts';
import type { Optimizer, StateEntry } from './optim/optimizer.ts';
import { Parameters } from './optim/parameters.ts';
import { scheduleFactor } from './optim/schedule.ts';
import { Sgd } from './optim/sgd.ts';
import { type Resolved, resolve, settingsOf, type TrainerOptions } from './options.ts';
import { Pacer } from './pause.ts';
import { checkSettings, freshState, type TrainerState } from './state.ts';

/** How a run ended. */
export interface TrainResult {
  readonly stopped: 'finished' | 'early' | 'aborted';
  readonly step: number;
  readonly epoch: number;
  /** Of the last step. */
  readonly loss: number;
  /** Tokens without padding, in all, and a second since this run began. */
  readonly inputTokens: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
  readonly best: TrainerState['best'];
  readonly memory: MemoryStatistics;
  /** The checkpoint it ended with. */
  readonly checkpoint: string | undefined;
}

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
  #prepared = 0;
  #evaluatedAt = -1;
  #savedAt: { readonly step: number; readonly where: string } | undefined;

  /** Makes gradients and optimizer state; parameters may move into one buffer. Throws on settings that cannot be meant. */
  constructor(options: TrainerOptions) {
    const o = resolve(options);
    this.options = o;
    this.plan = new BatchPlan(o.data, o);
    this.totalSteps = o.maxSteps ?? this.plan.stepsOf(o.numEpochs);
    this.parameters = new Parameters(o.device, o.model.parameters(), o);
    const { kind, ...rest } = { ...o.optimizer, weightDecay: o.weightDecay };
    this.optimizer = kind === 'sgd' ? new Sgd(this.parameters, rest) : new AdamW(this.parameters, rest);
    this.state = freshState(settingsOf(o, this.plan, this.parameters.count));
    this.#step = new Step({
      ...o,
      parameters: this.parameters,
      optimizer: this.optimizer,
      record: o.record === 'auto' && !o.anomalies,
    });
    this.#reporter = new Reporter({
      ...o,
      onRecord: ({ step, loss, gradNorm, learningRate }) =>
        this.state.history.push({ step, loss, gradNorm, learningRate }),
    });
  }

  /** Runs to the end, from where the state is. */
  async train(): Promise<TrainResult> {
    const { options: o, state } = this;
    const pacer = new Pacer();
    const tokensBefore = state.inputTokens;
    const due = (every: number | undefined) => every !== undefined && state.step % every === 0;
    let stopped: TrainResult['stopped'] = 'finished';
    this.#prepare(Math.max(this.plan.longestRow, (o.evalData?.longest ?? 0) + 8));
    o.model.setTraining?.(true);
    await o.anomalies?.first();
    this.#reporter.begin();
    while (state.step < this.totalSteps) {
      if (!(await this.#trainStep(pacer))) {
        stopped = 'aborted';
        break;
      }
      if (due(o.loggingSteps) || this.#reporter.full) await this.#reporter.read();
      if (due(o.evalSteps)) await this.#judge();
      if (due(o.saveSteps)) await this.save();
      if (o.earlyStopping && state.stale >= o.earlyStopping.patience) {
        stopped = 'early';
        break;
      }
      await pacer.breathe();
    }
    await this.#reporter.settle();
    if (stopped !== 'aborted' && o.evalData && this.#evaluatedAt !== state.step) await this.#judge();
    if (o.checkpoints && this.#savedAt?.step !== state.step) await this.save();
    if (stopped !== 'aborted' && o.loadBestAtEnd) await this.#loadBest();
    o.model.setTraining?.(false);
    const { seconds } = this.#reporter;
    const inputTokens = state.inputTokens - tokensBefore;
    const last = state.history.at(-1)?.loss ?? Number.NaN;
    return {
      stopped,
      step: state.step,
      epoch: this.#epoch(),
      loss: last,
      inputTokens,
      tokensPerSecond: inputTokens / seconds,
      seconds,
      best: state.best,
      memory: o.device.memory(),
      checkpoint: this.#savedAt?.where,
    };
  }

  /** One optimizer step; false when the run is to stop before it is whole. */
  async #trainStep(pacer: Pacer): Promise<boolean> {
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
      await pacer.breathe();
    }
    const learningRate = o.learningRate * scheduleFactor(o.lrScheduler, state.step, this.totalSteps, this.#warmup());
    this.#step.finish(++state.step, learningRate);
    if (++state.position >= plan.steps(state.epoch)) {
      state.epoch++;
      state.position = 0;
    }
    const inputTokens = batches.reduce((sum, b) => sum + b.inputTokens, 0);
    state.tokens += tokens;
    state.inputTokens += inputTokens;
    const info: StepInfo = {
      step: state.step,
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

  #warmup(): number {
    const { warmupSteps } = this.options;
    return warmupSteps < 1 ? Math.ceil(warmupSteps * this.totalSteps) : warmupSteps;
  }

  #epoch(): number {
    return this.state.epoch + this.state.position / this.plan.steps(this.state.epoch);
  }

  /** The mean loss over the tokens of `data` that count. */
  async evaluate(data: Dataset | undefined = this.options.evalData): Promise<Evaluation> {
    const { device, model, evalBatchSize, chunkRows } = this.options;
    if (!data) throw new TypeError('evaluate: give data, or evalData to the trainer');
    this.#prepare(data.longest + 8);
    return evaluate(device, model, data, { batchSize: evalBatchSize, chunkRows });
  }

  /** Evaluates, and keeps what is best so far. */
  async #judge(): Promise<void> {
    const { options: o, state } = this;
    await this.#reporter.settle();
    const result = await this.evaluate();
    o.model.setTraining?.(true);
    this.#evaluatedAt = state.step;
    const { best: before } = state;
    const best = before === undefined || result.loss < before.loss;
    state.stale =
      before === undefined || result.loss < before.loss - (o.earlyStopping?.minDelta ?? 0) ? 0 : state.stale + 1;
    if (best) state.best = { step: state.step, loss: result.loss };
    state.evaluations.push({ step: state.step, loss: result.loss, tokens: result.tokens });
    const record: EvaluationRecord = { ...result, step: state.step, epoch: this.#epoch(), best };
    await o.metrics?.write({ event: 'evaluation', ...record });
    await o.onEvaluate?.(record);
    if (best && o.loadBestAtEnd) await this.save();
  }

  /** Everything that a checkpoint holds, by name. */
  *entries(): Generator<StateEntry> {
    for (const [name, tensor] of this.parameters.named) yield entryOf(`parameters.${name}`, tensor);
    yield* this.optimizer.state();
  }

  /** Saves a checkpoint of the steps done so far; gives its place. */
  async save(): Promise<string> {
    const { checkpoints, checkpointFiles, onSave } = this.options;
    if (!checkpoints) throw new TypeError('save: the trainer has no checkpoint store');
    await this.#reporter.settle();
    const files = await checkpointFiles?.();
    const tensors: Checkpoint['tensors'] = new Map([...this.entries()].map((e) => [e.name, e]));
    const where = await checkpoints.save({ state: this.state, tensors, ...(files ? { files } : {}) });
    this.#savedAt = { step: this.state.step, where };
    await onSave?.({ step: this.state.step, where });
    return where;
  }

  /** Goes on from a checkpoint: `train` then does what a run never stopped would have done, bit for bit. Gives its step, or undefined where there is none. */
  async resume(which: 'latest' | 'best' | number = 'latest'): Promise<number | undefined> {
    const { checkpoints, metrics } = this.options;
    const saved = await checkpoints?.load(which);
    if (!saved) return undefined;
    checkSettings(saved.state, this.state.settings, saved.where);
    await restore(saved.tensors, [...this.entries()], saved.where);
    Object.assign(this.state, saved.state);
    this.#savedAt = { step: saved.state.step, where: saved.where };
    this.#evaluatedAt = saved.state.evaluations.at(-1)?.step ?? -1;
    await metrics?.resume?.(saved.state.step);
    return saved.state.step;
  }

  async #loadBest(): Promise<void> {
    const best = await this.options.checkpoints!.load('best');
    if (best && best.state.step !== this.state.step) await restore(best.tensors, [...this.entries()], best.where);
  }

  /** Drops recorded steps: call it after the model changed (other adapters set, longer rotation tables made). */
  forget(): void {
    this.#step.forget();
  }

  /** Shapes whose steps are recorded now, or why none is. */
  get recorded(): number | string {
    return this.#step.recorded;
  }

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
