import { check, checkNames, type Device, type RecomputePolicy, type Tensor } from '@lowrank/tensor';
import type { AnomalyMonitor } from './anomaly.ts';
import type { Callbacks } from './callbacks.ts';
import type { CheckpointStore } from './checkpoint.ts';
import type { Dataset } from './data/dataset.ts';
import type { BatchPlan } from './data/plan.ts';
import type { MetricsSink } from './metrics.ts';
import type { TrainableModel } from './model.ts';
import type { AdamWOptions } from './optim/adamw.ts';
import type { GroupOptions } from './optim/groups.ts';
import { type Schedule, schedules } from './optim/schedule.ts';
import type { SgdOptions } from './optim/sgd.ts';
import type { TrainerState } from './state.ts';

/** How a run goes. Names are transformers', in camelCase. */
export interface TrainerSettings {
  /** Rows of a batch. 8. */
  readonly batchSize?: number;
  /** Batches a step; their gradients are summed and divided once by all tokens that count. 1. */
  readonly gradientAccumulationSteps?: number;
  /** Passes over the data (may be a fraction). 3, unless maxSteps is given. */
  readonly numEpochs?: number;
  /** Ends the run after so many steps, whatever the epoch. */
  readonly maxSteps?: number;
  /** 2e-4 */
  readonly learningRate?: number;
  /** linear */
  readonly lrScheduler?: Schedule;
  /** Steps over which the learning rate rises from 0; below 1 a share of all steps. 0. */
  readonly warmupSteps?: number;
  readonly weightDecay?: number;
  /** Weight decay on matrices alone (the default), or on norms and biases as well. */
  readonly decay?: 'matrices' | 'all';
  readonly groups?: readonly GroupOptions[];
  /** adamw */
  readonly optimizer?: ({ readonly kind: 'adamw' } & AdamWOptions) | ({ readonly kind: 'sgd' } & SgdOptions);
  /** Gradients are scaled down to this norm; 0 or undefined: they are not. */
  readonly maxGradNorm?: number | undefined;
  /** Order of the data, and dropout. 0. */
  readonly seed?: number;
  /** On by default; off keeps the order of the data. */
  readonly shuffle?: boolean;
  readonly groupByLength?: boolean;
  /** Several samples in a row, without attention between them. */
  readonly packing?: boolean;
  /** Tokens of a packed row (and of every row with `padTo: 'max'`); the longest sample by default. */
  readonly rowLength?: number;
  readonly padTo?: 'longest' | 'max';
  /** 8 */
  readonly padToMultipleOf?: number;
  /** What the backward pass makes again instead of keeping it. none. */
  readonly recompute?: RecomputePolicy;
  /** What enters each block, and what `recompute` keeps of it, waits in host memory for the backward pass. An error where the backend cannot. off. */
  readonly offload?: boolean;
  /** Rows whose logits exist at a time. As many as take 64 MiB, in steps of 256. */
  readonly chunkRows?: number;
  /** `auto` records a step of a shape that comes again, and replays it; bit-equal to `off`. */
  readonly record?: 'auto' | 'off';
  /** Shapes recorded at a time; they share their memory. 16. */
  readonly recordedShapes?: number;
  /** Gather small parameter sets in one buffer. auto. */
  readonly flatten?: 'auto' | 'off';
  /** Results are read from the device every so many steps; 1 where the device is synchronous, else 10. */
  readonly loggingSteps?: number;
  /** Evaluate every so many steps (and at the end). */
  readonly evalSteps?: number;
  readonly evalBatchSize?: number;
  /** Save a checkpoint every so many steps (and at the end). */
  readonly saveSteps?: number;
  /** Stop when the evaluation loss did not fall by more than `minDelta` for `patience` evaluations. */
  readonly earlyStopping?: { readonly patience: number; readonly minDelta?: number };
  /** Save a checkpoint whenever the evaluation loss is the lowest so far, and end with its parameters. */
  readonly loadBestAtEnd?: boolean;
}

export interface TrainerOptions extends TrainerSettings, Callbacks {
  readonly device: Device;
  readonly model: TrainableModel;
  readonly data: Dataset;
  readonly evalData?: Dataset | undefined;
  /** u32 [4] that the model's dropout reads (`Device.seed`); the trainer writes it before every batch. */
  readonly dropoutSeed?: Tensor | undefined;
  readonly checkpoints?: CheckpointStore | undefined;
  /** Files to lie beside a checkpoint: an adapter folder, say. */
  readonly checkpointFiles?: (() => Promise<ReadonlyMap<string, Uint8Array>>) | undefined;
  readonly metrics?: MetricsSink | undefined;
  /** Stops the run after the step under way, with a checkpoint. */
  readonly signal?: AbortSignal | undefined;
  /** Names the op where a loss that is not finite began; the device must run on its backend. */
  readonly anomalies?: AnomalyMonitor | undefined;
  /**
   * What else a resumed run must share, that the trainer does not see: an adapter's scale, the format of the base. Checkpoints keep it, and
   * one of a run with other facts is refused.
   */
  readonly identity?: Readonly<Record<string, string | number | boolean>> | undefined;
}

/** Every option, so that a name that is none is found. */
const names = {
  batchSize: true,
  gradientAccumulationSteps: true,
  numEpochs: true,
  maxSteps: true,
  learningRate: true,
  lrScheduler: true,
  warmupSteps: true,
  weightDecay: true,
  decay: true,
  groups: true,
  optimizer: true,
  maxGradNorm: true,
  seed: true,
  shuffle: true,
  groupByLength: true,
  packing: true,
  rowLength: true,
  padTo: true,
  padToMultipleOf: true,
  recompute: true,
  offload: true,
  chunkRows: true,
  record: true,
  recordedShapes: true,
  flatten: true,
  loggingSteps: true,
  evalSteps: true,
  evalBatchSize: true,
  saveSteps: true,
  earlyStopping: true,
  loadBestAtEnd: true,
  device: true,
  model: true,
  data: true,
  evalData: true,
  dropoutSeed: true,
  checkpoints: true,
  checkpointFiles: true,
  metrics: true,
  signal: true,
  anomalies: true,
  identity: true,
  onStep: true,
  onLog: true,
  onEvaluate: true,
  onSave: true,
} as const satisfies Record<keyof TrainerOptions, true>;

/** Options that are one of a few words, and those words. */
const words = {
  decay: ['matrices', 'all'],
  padTo: ['longest', 'max'],
  recompute: ['none', 'selective', 'block'],
  record: ['auto', 'off'],
  flatten: ['auto', 'off'],
} as const satisfies { readonly [K in keyof TrainerSettings]?: readonly TrainerSettings[K][] };

function validateWords(o: TrainerOptions): void {
  const oneOf = (name: string, value: unknown, known: readonly unknown[]) =>
    check(
      value === undefined || known.includes(value),
      'train',
      `${name} must be one of ${known.join(', ')}`,
      String(value),
    );
  for (const [name, known] of Object.entries(words)) oneOf(name, o[name as keyof typeof words], known);
  oneOf('optimizer.kind', o.optimizer?.kind, ['adamw', 'sgd']);
  if (typeof o.lrScheduler !== 'function') oneOf('lrScheduler', o.lrScheduler, schedules);
}

/** Throws on settings that cannot be meant. */
function validate(o: TrainerOptions): void {
  checkNames('train', o, Object.keys(names));
  validateWords(o);
  const whole = (name: keyof TrainerSettings, least = 1) => {
    const value = o[name] as number | undefined;
    check(
      value === undefined || (Number.isInteger(value) && value >= least),
      'train',
      `${name} must be a whole number of at least ${least}`,
      String(value),
    );
  };
  for (const name of [
    'batchSize',
    'gradientAccumulationSteps',
    'maxSteps',
    'chunkRows',
    'loggingSteps',
    'evalSteps',
    'evalBatchSize',
    'saveSteps',
    'recordedShapes',
    'rowLength',
  ] as const)
    whole(name);
  const atLeast0 = (name: keyof TrainerSettings) => {
    const value = o[name] as number | undefined;
    check(
      value === undefined || (Number.isFinite(value) && value >= 0),
      'train',
      `${name} must not be negative`,
      String(value),
    );
  };
  for (const name of ['learningRate', 'warmupSteps', 'weightDecay', 'maxGradNorm', 'seed'] as const) atLeast0(name);
  check(o.numEpochs === undefined || o.numEpochs > 0, 'train', 'numEpochs must be positive', String(o.numEpochs));
  check(Number.isSafeInteger(o.seed ?? 0), 'train', 'seed must be a whole number', String(o.seed));
  check(o.data.length > 0, 'train', 'no data');
  const needsEval = o.evalSteps ?? o.earlyStopping ?? (o.loadBestAtEnd || undefined);
  check(
    needsEval === undefined || o.evalData,
    'train',
    'evaluation needs evalData',
    '',
    'Give evalData, or leave out evalSteps, earlyStopping and loadBestAtEnd',
  );
  check(
    !o.earlyStopping || (o.evalSteps && o.earlyStopping.patience >= 1),
    'train',
    'early stopping needs evalSteps and a patience of at least 1',
  );
  check(
    !(o.saveSteps || o.loadBestAtEnd) || o.checkpoints,
    'train',
    'saving needs a checkpoint store',
    '',
    "Give checkpoints: new FolderCheckpoints('out')",
  );
  const { backend } = o.device;
  check(
    !o.offload || backend.memory.offload,
    'train',
    'this backend has no host memory to offload to',
    backend.name,
    'Leave offload out, or take a backend that has (cuda)',
  );
  const { dropoutSeed: s } = o;
  check(!s || (s.dtype === 'u32' && s.size === 4 && s.isContiguous), 'train', 'dropoutSeed must be u32 [4]', () =>
    String(s),
  );
}

type Defaults =
  | 'batchSize'
  | 'gradientAccumulationSteps'
  | 'numEpochs'
  | 'learningRate'
  | 'lrScheduler'
  | 'warmupSteps'
  | 'weightDecay'
  | 'optimizer'
  | 'seed'
  | 'record'
  | 'loggingSteps'
  | 'evalBatchSize';

/** Options with what was left out filled in. */
export type Resolved = TrainerOptions & Required<Pick<TrainerSettings, Defaults>>;

export function resolve(options: TrainerOptions): Resolved {
  validate(options);
  const asynchronous = options.device.backend.caps.asynchronous && !options.anomalies;
  const given = Object.fromEntries(
    Object.entries(options).filter(([, v]) => v !== undefined),
  ) as unknown as TrainerOptions;
  return {
    batchSize: 8,
    gradientAccumulationSteps: 1,
    numEpochs: 3,
    learningRate: 2e-4,
    lrScheduler: 'linear',
    warmupSteps: 0,
    weightDecay: given.optimizer?.weightDecay ?? 0,
    optimizer: { kind: 'adamw' },
    seed: 0,
    record: 'auto',
    loggingSteps: asynchronous ? 10 : 1,
    evalBatchSize: given.batchSize ?? 8,
    ...given,
    maxGradNorm: given.maxGradNorm || undefined,
  };
}

/** What a resumed run must share with the one it goes on from; facts of the caller's own are among them. */
export function settingsOf(o: Resolved, plan: BatchPlan, trainable: number): TrainerState['settings'] {
  const { batchSize, gradientAccumulationSteps, shuffle, groupByLength, packing, padTo, padToMultipleOf, rowLength } =
    plan.options;
  return {
    data: o.data.fingerprint(),
    seed: o.seed,
    batchSize,
    gradientAccumulationSteps,
    shuffle,
    groupByLength,
    packing,
    padTo,
    padToMultipleOf,
    rowLength: rowLength ?? 0,
    optimizer: o.optimizer.kind,
    flatten: o.flatten ?? 'auto',
    trainable,
    ...o.identity,
  };
}
