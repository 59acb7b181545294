import { check } from '@lowrank/tensor';
import { type Batch, collate } from './batch.ts';
import type { Dataset } from './dataset.ts';
import { groupedByLength, sampleStream, shuffled } from './order.ts';
import { pack } from './pack.ts';

export interface BatchOptions {
  /** Rows of a batch. */
  readonly batchSize: number;
  /** Batches whose gradients add up to one step. */
  readonly gradientAccumulationSteps?: number;
  readonly shuffle?: boolean;
  readonly seed?: number;
  readonly groupByLength?: boolean;
  /** Several samples in a row, none of which sees another. All batches then have one shape. */
  readonly packing?: boolean;
  /** Tokens of a row when packing or with `padTo: 'max'`; the longest sample by default. */
  readonly rowLength?: number | undefined;
  /** Rows are as long as their batch needs, or all equally long. */
  readonly padTo?: 'longest' | 'max';
  readonly padToMultipleOf?: number;
}

/** The order of everything: which samples make up which batch of which step of which epoch. A function of its options alone. */
export class BatchPlan {
  readonly dataset: Dataset;
  readonly options: Required<BatchOptions>;
  readonly #lengths: readonly number[];
  #cached: { epoch: number; batches: (readonly number[])[][] } | undefined;

  constructor(dataset: Dataset, options: BatchOptions) {
    const multiple = options.padToMultipleOf ?? 8;
    const whole = (name: string, value: number) =>
      check(
        Number.isInteger(value) && value >= 1,
        'train',
        `${name} must be a whole number of at least 1`,
        String(value),
      );
    whole('batchSize', options.batchSize);
    whole('gradientAccumulationSteps', options.gradientAccumulationSteps ?? 1);
    whole('padToMultipleOf', multiple);
    check(
      !(options.packing && options.groupByLength),
      'train',
      'packing and groupByLength exclude each other',
      '',
      'Packed rows are full already',
    );
    this.dataset = dataset;
    this.options = {
      gradientAccumulationSteps: 1,
      shuffle: true,
      seed: 0,
      groupByLength: false,
      packing: false,
      padTo: 'longest',
      ...options,
      padToMultipleOf: multiple,
      rowLength: Math.ceil((options.rowLength ?? dataset.longest) / multiple) * multiple,
    };
    check(
      this.options.rowLength! >= dataset.longest || (this.options.padTo === 'longest' && !options.packing),
      'train',
      'a sample is longer than a row',
      () => `${dataset.longest} tokens, rows of ${this.options.rowLength}`,
      'Raise rowLength, or cut samples at it',
    );
    this.#lengths = dataset.samples.map((s) => s.ids.length);
  }

  /** Tokens of the longest row that can come. */
  get longestRow(): number {
    const { packing, padTo, padToMultipleOf, rowLength } = this.options;
    if (packing || padTo === 'max') return rowLength!;
    return Math.ceil(this.dataset.longest / padToMultipleOf) * padToMultipleOf;
  }

  /** Batches of an epoch, as rows of sample indices. */
  batches(epoch: number): readonly (readonly (readonly number[])[])[] {
    if (this.#cached?.epoch === epoch) return this.#cached.batches;
    const { batchSize, shuffle, seed, packing, rowLength } = this.options;
    const all = this.#lengths.map((_, i) => i);
    const order = shuffle ? shuffled(all, seed, epoch, sampleStream) : all;
    let batches: (readonly number[])[][];
    if (this.options.groupByLength)
      batches = groupedByLength(order, this.#lengths, batchSize, seed, epoch).map((b) => b.map((i) => [i]));
    else
      batches = chunks(packing ? pack(order, this.#lengths, rowLength!, !shuffle) : order.map((i) => [i]), batchSize);
    this.#cached = { epoch, batches };
    return batches;
  }

  /** Optimizer steps of an epoch; the last one may hold fewer batches. */
  steps(epoch: number): number {
    const { packing, batchSize, gradientAccumulationSteps } = this.options;
    // only packing gives epochs of different lengths
    const batches = packing ? this.batches(epoch).length : Math.ceil(this.dataset.length / batchSize);
    return Math.ceil(batches / gradientAccumulationSteps);
  }

  /** Optimizer steps of so many epochs (a fraction counts part of the last). */
  stepsOf(epochs: number): number {
    let sum = 0;
    for (let e = 0; e < Math.floor(epochs); e++) sum += this.steps(e);
    const rest = epochs - Math.floor(epochs);
    return sum + (rest > 0 ? Math.ceil(rest * this.steps(Math.floor(epochs))) : 0);
  }

  /** The batches of one step of an epoch. */
  step(epoch: number, position: number): Batch[] {
    const k = this.options.gradientAccumulationSteps;
    const batches = this.batches(epoch);
    const minRows = batches[0]?.length ?? 0;
    return batches.slice(position * k, position * k + k).map((rows) => this.collate(rows, minRows));
  }

  /** A batch of these rows. Packed ones are filled up to `minRows`, so that all of an epoch have one shape. */
  collate(rows: readonly (readonly number[])[], minRows = 0): Batch {
    const { packing, padTo, padToMultipleOf, rowLength } = this.options;
    if (packing) return collate(this.dataset, rows, rowLength!, { packed: true, minRows });
    if (padTo === 'max') return collate(this.dataset, rows, rowLength!);
    const longest = rows.reduce(
      (most, row) =>
        Math.max(
          most,
          row.reduce((sum, i) => sum + this.#lengths[i]!, 0),
        ),
      1,
    );
    return collate(this.dataset, rows, Math.ceil(longest / padToMultipleOf) * padToMultipleOf);
  }
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const out: T[][] = [];
  for (let at = 0; at < items.length; at += size) out.push(items.slice(at, at + size));
  return out;
}
