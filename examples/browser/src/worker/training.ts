import { LoraModel } from '@lowrank/lora';
import { CausalLm, type DecoderConfig, loadModel, type ModelFiles } from '@lowrank/models';
import { BlockwiseWeight, fromBnbTensors } from '@lowrank/nf4';
import { type Backend, DenseWeight, Device, type FloatDType, keep, nullBackend, type Tensor } from '@lowrank/tensor';
import { Dataset, type HiddenInput, type TrainableModel, Trainer, type TrainerSettings } from '@lowrank/trainer';
import type { ForecastFacts, RunSettings } from '../protocol.ts';
import type { PreparedData } from './data.ts';

/** QLoRA's defaults, and bitsandbytes'. */
export const quant = { quantType: 'nf4', blockSize: 64, doubleQuant: true } as const;

/** Loads a model onto a device, in 4 bits for QLoRA. */
export function loadWeights(
  device: Device,
  files: ModelFiles,
  settings: RunSettings,
  onProgress: (share: number) => void,
): Promise<CausalLm> {
  return loadModel(device, files, {
    ...(settings.method === 'qlora' ? { quantize: (_, values) => BlockwiseWeight.quantize(values, quant) } : {}),
    blockwise: (name, names, read) => fromBnbTensors(device, name, names, read),
    onProgress: ({ bytes, totalBytes }) => onProgress(bytes / totalBytes),
  });
}

/** A fresh adapter on every linear layer. */
export function addAdapter(model: CausalLm, device: Device, settings: RunSettings, base: string): LoraModel {
  const { r, loraAlpha, loraDropout, seed } = settings;
  const lora = new LoraModel(model, device);
  lora.addAdapter(
    'default',
    { r, loraAlpha, loraDropout, targetModules: 'all-linear', taskType: 'CAUSAL_LM', baseModelNameOrPath: base },
    { seed },
  );
  return lora;
}

/** A model with its adapter, as the trainer takes it. */
export function trainable(model: CausalLm, lora: LoraModel): TrainableModel {
  return {
    parameters: () => lora.trainableParameters(),
    hidden: (ids: Tensor, input: HiddenInput) => model.hidden(ids, input),
    head: (rows: Tensor) => model.head(rows),
    vocabSize: model.config.vocabSize,
    prepare: (length: number) => void model.prepare(length),
    setTraining: (on: boolean) => void (lora.training = on),
  };
}

/** Settings of the loop in the trainer's terms. */
export function loopSettings(settings: RunSettings, asynchronous: boolean): TrainerSettings {
  const { batchSize, maxSteps, learningRate, seed } = settings;
  return {
    batchSize,
    maxSteps,
    learningRate,
    seed,
    lrScheduler: 'linear',
    warmupSteps: Math.min(12, Math.ceil(maxSteps / 20)),
    maxGradNorm: 1,
    groupByLength: true,
    loggingSteps: asynchronous ? 4 : 1,
    saveSteps: Math.max(1, Math.min(25, Math.round(maxSteps / 10))),
  };
}

/** Milliseconds of a step from which the next is not enqueued before it is done. */
const longStep = 250;

/**
 * For `onStep`: waits for every step of a device that takes long for one. Nothing is gained by having several under way there, and the page
 * is drawn, paused and closed the sooner; a browser cannot even let go of a device before it has done what it was given.
 */
export function waiting(device: Device): () => Promise<void> {
  let [long, steps, from] = [true, 0, performance.now()];
  return async () => {
    steps++;
    if (!long && steps < 4) return;
    await device.synchronize();
    const now = performance.now();
    long = (now - from) / steps > longStep;
    [steps, from] = [0, now];
  };
}

/** Steps that are tried: shapes come eagerly, are recorded, are replayed, and make room for others. */
const triedSteps = 16;

/** The memory of a run, from the same code on a backend that computes nothing and only counts. */
export async function forecastRun(
  backend: Backend,
  config: DecoderConfig,
  dtypeOf: (name: string) => FloatDType,
  data: PreparedData,
  settings: RunSettings,
): Promise<Omit<ForecastFacts, 'storageBytes' | 'storageFreeBytes'>> {
  await using device = new Device(nullBackend(backend));
  const able = (dtype: FloatDType): FloatDType => (device.backend.caps.dtypes[dtype].store ? dtype : 'f32');
  using model = await CausalLm.create(
    device,
    config,
    {
      linear: async (name, shape) => {
        const dtype = able(dtypeOf(name));
        if (settings.method !== 'qlora') return new DenseWeight(keep(device.empty(shape, dtype, 'weights')));
        using values = keep(device.empty(shape, dtype, 'workspace'));
        const weight = await BlockwiseWeight.quantize(values, quant);
        keep([...weight.tensors().values()]);
        return weight;
      },
      tensor: async (name, shape) => keep(device.empty(shape, able(dtypeOf(name)), 'weights')),
    },
    { computeDtype: device.backend.caps.preferredCompute },
  );
  using lora = addAdapter(model, device, settings, '');
  using seed = keep(device.seed(0));
  if (settings.loraDropout) lora.seed = seed;
  const longestFirst = new Dataset(
    [...data.train.samples].sort((a, b) => b.ids.length - a.ids.length),
    { padTokenId: data.train.padTokenId },
  );
  const { saveSteps: _saved, ...loop } = loopSettings(settings, backend.caps.asynchronous);
  using trainer = new Trainer({
    ...loop,
    device,
    model: trainable(model, lora),
    data: longestFirst,
    evalData: data.heldOut?.slice(0, 2 * settings.batchSize),
    shuffle: false,
    groupByLength: false,
    maxSteps: Math.min(settings.maxSteps, triedSteps),
    ...(settings.loraDropout ? { dropoutSeed: seed } : {}),
  });
  await trainer.train();
  const { peak, peakByClass, peakReserved } = device.memory();
  const { trainable: learnt, total } = lora.counts();
  return {
    peakBytes: peak,
    reservedBytes: peakReserved,
    byClass: peakByClass,
    trainable: learnt,
    total,
    limitBytes: backend.caps.limits.memoryBytes,
  };
}
