import { LoraModel } from '@lowrank/lora';
import { CausalLm, type DecoderConfig, type WeightSource } from '@lowrank/models';
import { BlockwiseWeight } from '@lowrank/nf4';
import { DenseWeight, type Device, type FloatDType, keep, type RecomputePolicy, scope } from '@lowrank/tensor';
import { Dataset, Trainer } from '@lowrank/trainer';
import { flopsPerToken } from './shapes.ts';

export interface TrainStepOptions {
  readonly config: DecoderConfig;
  readonly method: 'lora' | 'qlora';
  readonly batch: number;
  readonly length: number;
  readonly rank: number;
  readonly recompute: RecomputePolicy;
  readonly dtype: FloatDType;
  /** Steps that are timed, after two that are not (one eager, one recorded). */
  readonly steps: number;
  readonly chunkRows?: number;
  readonly offload?: boolean;
}

export interface TrainStepResult {
  /** Milliseconds of each timed step, from one synchronization to the next. */
  readonly milliseconds: readonly number[];
  readonly tokensPerSecond: number;
  readonly peakBytes: number;
  readonly reservedBytes: number;
  readonly loss: number;
  /** Operations of the shapes over the median step. */
  readonly flopsPerSecond: number;
}

/** Random weights made on the device, of the size that real ones have. */
export function randomWeights(device: Device, dtype: FloatDType, quantize: boolean): WeightSource {
  let site = 0;
  const normal = (shape: readonly number[], scale: number) =>
    device.withClass('weights', () =>
      keep(scope(() => device.random(shape, { seed: 1, site: ++site, dtype }).affine(scale, 0))),
    );
  return {
    linear: async (_, shape) => {
      if (!quantize) return new DenseWeight(normal(shape, 0.02));
      using values = normal(shape, 0.02);
      return BlockwiseWeight.quantize(values);
    },
    tensor: async (name, shape) =>
      name.includes('norm')
        ? device.withClass('weights', () => keep(device.full(shape, 1, dtype)))
        : normal(shape, 0.02),
  };
}

/** Times whole training steps (forward, backward, AdamW) on random weights and tokens, as the trainer runs them. */
export async function measureTrainStep(device: Device, o: TrainStepOptions): Promise<TrainStepResult> {
  const model = await CausalLm.create(device, o.config, randomWeights(device, o.dtype, o.method === 'qlora'), {
    computeDtype: o.dtype,
  });
  device.pool.trim();
  const lora = new LoraModel(model, device);
  lora.addAdapter('default', { r: o.rank, loraAlpha: 2 * o.rank, targetModules: 'all-linear' });
  let state = 12345;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % o.config.vocabSize;
  };
  const sample = () => {
    const ids = Int32Array.from({ length: o.length }, next);
    return { ids, labels: ids, where: 'random' };
  };
  const total = o.steps + 2;
  const data = new Dataset(Array.from({ length: total * o.batch }, sample), { padTokenId: 0 });
  const times: number[] = [];
  let last = 0;
  device.pool.resetPeak();
  const trainer = new Trainer({
    device,
    model: {
      parameters: () => lora.trainableParameters(),
      hidden: (ids, input) => model.hidden(ids, input),
      head: (rows) => model.head(rows),
      prepare: (n) => model.prepare(n),
    },
    data,
    batchSize: o.batch,
    maxSteps: total,
    shuffle: false,
    recompute: o.recompute,
    learningRate: 1e-4,
    padToMultipleOf: 1,
    loggingSteps: total,
    ...(o.chunkRows ? { chunkRows: o.chunkRows } : {}),
    ...(o.offload ? { offload: true } : {}),
    onStep: async ({ step }) => {
      await device.synchronize();
      const now = performance.now();
      if (step > 2) times.push(now - last);
      last = now;
    },
  });
  const { loss } = await trainer.train();
  const memory = device.memory();
  trainer[Symbol.dispose]();
  lora.dispose();
  model.dispose();
  const median = [...times].sort((a, b) => a - b)[times.length >> 1]!;
  const tokens = o.batch * o.length;
  return {
    milliseconds: times,
    tokensPerSecond: (tokens / median) * 1000,
    peakBytes: memory.peak,
    reservedBytes: memory.peakReserved,
    loss,
    flopsPerSecond: (flopsPerToken(o.config, o.length, o.rank) * tokens * 1000) / median,
  };
}
