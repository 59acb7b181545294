import { LoraModel } from '@lowrank/lora';
import { CausalLm, type DecoderConfig, type WeightSource } from '@lowrank/models';
import { BlockwiseWeight } from '@lowrank/nf4';
import { DenseWeight, type Device, type FloatDType, keep, type RecomputePolicy, scope } from '@lowrank/tensor';
import { Dataset, selectParameters, Trainer } from '@lowrank/trainer';
import { flopsPerToken, fullFlopsPerToken } from './shapes.ts';

export interface TrainStepOptions {
  readonly config: DecoderConfig;
  readonly method: 'lora' | 'qlora' | 'full';
  readonly batch: number;
  readonly length: number;
  readonly rank: number;
  readonly recompute: RecomputePolicy;
  readonly dtype: FloatDType;
  /** Steps that are timed at most, after two that are not (one eager, one recorded). */
  readonly steps: number;
  readonly seed?: number;
  readonly record?: 'auto' | 'off';
  readonly chunkRows?: number;
  readonly offload?: boolean;
  /** Waited for before each timed step; false ends the run. */
  readonly next?: () => Promise<boolean>;
  /** Told of each timed step. */
  readonly onTimed?: (step: { readonly milliseconds: number; readonly cpuMilliseconds: number }) => void;
}

export interface TrainStepResult {
  /** Milliseconds of each timed step, from one synchronization to the next. */
  readonly milliseconds: readonly number[];
  /** Of each timed step, what the host took to enqueue it. */
  readonly enqueueMilliseconds: readonly number[];
  readonly tokensPerSecond: number;
  readonly peakBytes: number;
  readonly reservedBytes: number;
  /** At the peak. */
  readonly bytesByClass: Readonly<Record<string, number>>;
  readonly trainable: number;
  readonly loss: number;
  /** Operations of the shapes over the median step. */
  readonly flopsPerSecond: number;
}

/** Random weights made on the device, of the size that real ones have. */
function randomWeights(device: Device, dtype: FloatDType, quantize: boolean): WeightSource {
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

/** Rows of random tokens that all count. */
function randomRows(o: TrainStepOptions, rows: number): Dataset {
  let state = 12345 + (o.seed ?? 0);
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % o.config.vocabSize;
  };
  const sample = () => {
    const ids = Int32Array.from({ length: o.length }, next);
    return { ids, labels: ids, where: 'random' };
  };
  return new Dataset(Array.from({ length: rows }, sample), { padTokenId: 0 });
}

/** Times whole training steps (forward, backward, AdamW) on random weights and tokens, as the trainer runs them. */
export async function measureTrainStep(device: Device, o: TrainStepOptions): Promise<TrainStepResult> {
  using model = await CausalLm.create(device, o.config, randomWeights(device, o.dtype, o.method === 'qlora'), {
    computeDtype: o.dtype,
  });
  device.pool.trim();
  using lora = o.method === 'full' ? undefined : new LoraModel(model, device);
  lora?.addAdapter('default', { r: o.rank, loraAlpha: 2 * o.rank, targetModules: 'all-linear' });
  const trained = lora ? lora.trainableParameters() : device.withClass('weights', () => selectParameters(model));
  const total = o.steps + 2;
  const times: number[] = [];
  const enqueueTimes: number[] = [];
  let last = 0;
  let lastCpu = process.cpuUsage();
  let timing = false;
  const stop = new AbortController();
  device.pool.resetPeak();
  using trainer = new Trainer({
    device,
    model: {
      parameters: () => trained,
      hidden: (ids, input) => model.hidden(ids, input),
      head: (rows) => model.head(rows),
      vocabSize: o.config.vocabSize,
      prepare: (n) => model.prepare(n),
    },
    data: randomRows(o, Math.min(total, 64) * o.batch),
    batchSize: o.batch,
    maxSteps: total,
    shuffle: false,
    recompute: o.recompute,
    learningRate: 1e-4,
    padToMultipleOf: 1,
    loggingSteps: total,
    signal: stop.signal,
    ...(o.record ? { record: o.record } : {}),
    ...(o.chunkRows ? { chunkRows: o.chunkRows } : {}),
    ...(o.offload ? { offload: true } : {}),
    onStep: async ({ step }) => {
      const enqueued = performance.now() - last;
      await device.synchronize();
      const milliseconds = performance.now() - last;
      const { user, system } = process.cpuUsage(lastCpu);
      if (timing) {
        times.push(milliseconds);
        enqueueTimes.push(enqueued);
        o.onTimed?.({ milliseconds, cpuMilliseconds: (user + system) / 1000 });
      }
      timing = step >= 2;
      if (timing && o.next && !(await o.next())) stop.abort();
      last = performance.now();
      lastCpu = process.cpuUsage();
    },
  });
  const { loss } = await trainer.train();
  const memory = device.memory();
  const median = [...times].sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
  const tokens = o.batch * o.length;
  const flops = lora ? flopsPerToken(o.config, o.length, o.rank) : fullFlopsPerToken(o.config, o.length);
  let trainable = 0;
  for (const t of trained.values()) trainable += t.size;
  return {
    milliseconds: times,
    enqueueMilliseconds: enqueueTimes,
    tokensPerSecond: (tokens / median) * 1000,
    peakBytes: memory.peak,
    reservedBytes: memory.peakReserved,
    bytesByClass: memory.peakByClass,
    trainable,
    loss,
    flopsPerSecond: (flops * tokens * 1000) / median,
  };
}
