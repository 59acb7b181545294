import { CausalLm, type DecoderConfig, type WeightSource } from '@lowrank/models';
import { BlockwiseWeight } from '@lowrank/nf4';
import {
  type Backend,
  type BytesByClass,
  DenseWeight,
  Device,
  type FloatDType,
  keep,
  LowrankError,
  nullBackend,
} from '@lowrank/tensor';
import { BatchPlan, Dataset, Trainer } from '@lowrank/trainer';
import { adapterOptions, type Settings } from '../options/schema.ts';
import { bytes } from '../report/format.ts';
import { computeDtype, type Method, quantOptions, weightDtype } from './session.ts';
import { dropsOut, makeTrainee, trainerSettings } from './training.ts';

/** What a run would take. */
export interface Forecast {
  readonly method: Method;
  /** Numbers that train, and all numbers. */
  readonly trainable: number;
  readonly total: number;
  /** The most that tensors hold at once, in bytes, and what it is made of at that moment. */
  readonly peakBytes: number;
  readonly peakByClass: Readonly<BytesByClass>;
  /** What the device has given out by then: the pool's pieces are a little larger than what lies in them. */
  readonly reservedBytes: number;
}

export interface ForecastInput {
  readonly backend: Backend;
  readonly config: DecoderConfig;
  readonly settings: Settings;
  readonly stored: (name: string) => FloatDType;
  /** The data of the run; without it rows of `length` tokens that all count. */
  readonly data?: Dataset | undefined;
  readonly evalData?: Dataset | undefined;
  readonly length?: number;
}

/** Steps that are tried: shapes come eagerly, are recorded, are replayed, and make room for others. */
const mostSteps = 24;

/**
 * The memory of a training run, from the same code on a backend that computes nothing: shapes, kernels and pool are those of `backend`.
 * Runs in a second or so whatever the model's size, since nothing is allocated in truth.
 */
export async function forecast(input: ForecastInput, method: Method): Promise<Forecast> {
  const { config, settings, stored } = input;
  await using device = new Device(nullBackend(input.backend));
  const source = emptyWeights(device, method, settings, stored);
  using model = await CausalLm.create(device, config, source, {
    computeDtype: computeDtype(device.backend, settings.dtype),
  });
  const own: Settings = method === 'full' ? withoutAdapter(settings) : { ...settings, trainable: undefined };
  using trainee = await makeTrainee(device, model, method, own);
  const data = input.data ?? syntheticData(config, settings, input.length ?? 512);
  const given = trainerSettings(settings, method);
  using seed = keep(device.seed(0));
  const dropout = trainee.lora !== undefined && dropsOut(trainee.lora);
  if (dropout) trainee.lora!.seed = seed;
  const plan = new BatchPlan(data, { batchSize: 8, ...given });
  const steps = given.maxSteps ?? plan.stepsOf(given.numEpochs ?? 3);
  // a long run is tried on its longest samples first, and on some of the others
  const rows = steps > mostSteps ? { data: longestFirst(data), shuffle: false, groupByLength: false } : { data };
  const options = {
    ...given,
    evalSteps: undefined,
    earlyStopping: undefined,
    loadBestAtEnd: false,
    saveSteps: undefined,
  };
  using trainer = new Trainer({
    ...options,
    ...rows,
    device,
    model: trainee.model,
    evalData:
      input.evalData && longestFirst(input.evalData).slice(0, settings.evalBatchSize ?? settings.batchSize ?? 8),
    maxSteps: Math.min(steps, mostSteps),
    ...(dropout ? { dropoutSeed: seed } : {}),
  });
  await trainer.train();
  const { peak, peakByClass, peakReserved } = device.memory();
  return {
    method,
    trainable: trainee.trainable,
    total: trainee.total,
    peakBytes: peak,
    peakByClass,
    reservedBytes: peakReserved,
  };
}

function withoutAdapter(settings: Settings): Settings {
  return { ...settings, ...Object.fromEntries(['adapter', ...adapterOptions].map((name) => [name, undefined])) };
}

/** Weights that take their place and hold nothing. */
function emptyWeights(
  device: Device,
  method: Method,
  settings: Settings,
  stored: (name: string) => FloatDType,
): WeightSource {
  const { dtypes } = device.backend.caps;
  const able = (dtype: FloatDType): FloatDType => (dtypes[dtype].store ? dtype : 'f32');
  const kept = (name: string) => weightDtype(method, settings.dtype) ?? able(stored(name));
  const quant = quantOptions(settings);
  return {
    linear: async (name, shape) => {
      if (method !== 'qlora') return new DenseWeight(keep(device.empty(shape, kept(name), 'weights')));
      using values = keep(device.empty(shape, able(stored(name)), 'workspace'));
      const weight = await BlockwiseWeight.quantize(values, quant);
      keep([...weight.tensors().values()]);
      return weight;
    },
    tensor: async (name, shape) => keep(device.empty(shape, kept(name), 'weights')),
  };
}

function syntheticData(config: DecoderConfig, settings: Settings, length: number): Dataset {
  const tokens = Math.min(settings.maxLength ?? length, config.maxPositions);
  const rows = (settings.batchSize ?? 8) * (settings.gradientAccumulationSteps ?? 1) * 3;
  const ids = new Int32Array(tokens);
  return new Dataset(
    Array.from({ length: rows }, (_, i) => ({ ids, labels: ids, where: `row ${i}` })),
    { padTokenId: 0 },
  );
}

function longestFirst(data: Dataset): Dataset {
  return new Dataset(
    [...data.samples].sort((a, b) => b.ids.length - a.ids.length),
    { padTokenId: data.padTokenId },
  );
}

/** Throws where a run would not fit the device: what it takes, and what would make it fit. */
export function checkFits(plan: Forecast, backend: Backend): void {
  const limit = backend.caps.limits.memoryBytes;
  if (limit === undefined || plan.reservedBytes <= limit) return;
  const parts = Object.entries(plan.peakByClass)
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([name, n]) => `${name} ${bytes(n)}`);
  const hints = [
    plan.peakByClass.activations > plan.peakBytes / 4
      ? 'lower --batch-size or --max-length, or use --recompute block'
      : '',
    plan.method === 'full'
      ? 'train an adapter: --method lora'
      : plan.method === 'lora'
        ? 'load the base in 4 bits: --method qlora'
        : '',
  ].filter(Boolean);
  const hint = hints.join('; ') || 'use a smaller model';
  throw new LowrankError(
    'train',
    'not enough memory',
    `the run takes ${bytes(plan.reservedBytes)} (${parts.join(', ')}), ${bytes(limit)} are there`,
    `${hint[0]!.toUpperCase()}${hint.slice(1)}`,
  );
}
