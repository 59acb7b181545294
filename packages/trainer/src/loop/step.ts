import { backward, copyInto, fillInto, keep, noGrad, reshape, slice, type Tensor } from '@lowrank/tensor';
import type { Batch } from '../data/batch.ts';
import { clipScale, gradientNorm } from '../optim/clip.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import type { Parameters } from '../optim/parameters.ts';
import type { Resolved } from '../options.ts';
import { batchLoss } from './forward.ts';
import { BatchInputs, headRows } from './inputs.ts';
import { Recorder } from './recorder.ts';

export interface StepOptions
  extends Pick<
    Resolved,
    | 'device'
    | 'model'
    | 'maxGradNorm'
    | 'recompute'
    | 'offload'
    | 'gradientAccumulationSteps'
    | 'chunkRows'
    | 'record'
    | 'recordedShapes'
    | 'dropoutSeed'
    | 'seed'
    | 'anomalies'
  > {
  readonly parameters: Parameters;
  readonly optimizer: Optimizer;
}

/**
 * The device work of one optimizer step: gradients of its batches are summed, each scaled by 1 / (labels that count in all of them), then
 * clipped and applied. Between steps gradients are zero. Nothing here waits for the device.
 */
export class Step implements Disposable {
  readonly #o: StepOptions;
  readonly #scale: Tensor;
  readonly #lossSum: Tensor;
  /** f32 [2]: loss and gradient norm of the last step. */
  readonly result: Tensor;
  readonly #batches: Recorder<BatchInputs>;
  readonly #update: Recorder<Disposable>;
  #made: (() => BatchInputs) | undefined;

  constructor(options: StepOptions) {
    this.#o = options;
    const { device } = options;
    // a monitor looks at every step anew
    const record = options.record === 'auto' && !options.anomalies;
    const zeros = (n: number) => keep(device.withClass('workspace', () => device.zeros([n])));
    this.#scale = zeros(1);
    this.#lossSum = zeros(1);
    this.result = zeros(2);
    this.#batches = new Recorder({ device, record, limit: options.recordedShapes, inputs: () => this.#made!() });
    this.#update = new Recorder({ device, record, limit: 1, inputs: () => ({ [Symbol.dispose]: () => {} }) });
  }

  /** Shapes that are recorded now, or why none is. */
  get recorded(): number | string {
    return this.#batches.refused ?? this.#update.refused ?? this.#batches.recorded;
  }

  /** Before the batches of a step: the labels that count in all of them. */
  begin(tokens: number): void {
    this.#o.device.write(this.#scale, Float32Array.of(1 / tokens));
  }

  /** Adds a batch's loss and gradients. `number` counts batches from the start of the run: dropout masks follow from it. */
  addBatch(batch: Batch, number: number): void {
    const { device, dropoutSeed, seed } = this.#o;
    if (dropoutSeed) device.write(dropoutSeed, Uint32Array.of(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, number, 0));
    const rows = headRows(batch);
    this.#made = () => new BatchInputs(device, batch, rows);
    this.#batches.run(
      BatchInputs.key(batch, rows),
      (inputs) => inputs.write(batch, rows),
      (inputs) => this.#backward(inputs),
    );
  }

  #backward(inputs: BatchInputs): void {
    const { model, recompute, offload, chunkRows, parameters, gradientAccumulationSteps } = this.#o;
    const loss = batchLoss(model, inputs, { recompute, offload, chunkRows, scale: this.#scale });
    // gradients are zero before the only batch of a step: it may write them instead of adding
    if (gradientAccumulationSteps === 1) for (const t of parameters.named.values()) t.freshGrad = true;
    backward(loss);
    noGrad(() => copyInto(this.#lossSum.add(reshape(loss.detach(), [1])), this.#lossSum));
  }

  /** Applies the gradients. `step` counts from 1. */
  finish(step: number, learningRate: number): void {
    this.#o.optimizer.prepare(step, learningRate);
    this.#update.run(
      'update',
      () => {},
      () => this.#apply(),
    );
  }

  #apply(): void {
    const { parameters, optimizer, maxGradNorm } = this.#o;
    const norm = gradientNorm(parameters);
    optimizer.apply(maxGradNorm === undefined ? undefined : clipScale(norm, maxGradNorm));
    copyInto(this.#lossSum, slice(this.result, 0, 0, 1));
    copyInto(norm, slice(this.result, 0, 1, 2));
    this.#clear();
  }

  /** Forgets the batches added since the last step. */
  #clear(): void {
    this.#o.parameters.zeroGrad();
    fillInto(this.#lossSum, 0);
  }

  /** Leaves a half-done step: gradients are zero again. */
  abandon(): void {
    this.#clear();
  }

  /** Drops what is recorded. */
  forget(): void {
    this.#batches.clear();
    this.#update.clear();
  }

  [Symbol.dispose](): void {
    this.forget();
    for (const t of [this.#scale, this.#lossSum, this.result]) t.dispose();
  }
}
