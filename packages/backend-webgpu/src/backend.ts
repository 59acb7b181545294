import { type Backend, type Capabilities, dtypes, LowrankError } from '@lowrank/kernels';
import {
  type AdapterFacts,
  adapterFacts,
  findAdapter,
  openDevice,
  type Tuning,
  type WebGpuOptions,
} from './adapter.ts';
import { wgsl } from './generated/wgsl.ts';
import { Gpu } from './gpu/gpu.ts';
import { Launcher } from './gpu/launcher.ts';
import { WebGpuMemory } from './gpu/memory.ts';
import { Pipelines } from './gpu/pipelines.ts';
import { Scratch } from './gpu/scratch.ts';
import { Stream } from './gpu/stream.ts';
import { type DispatchTime, deviceTime, needTimestamps, Profile } from './gpu/timing.ts';
import { tryHalf } from './half.ts';
import { attentionOps } from './ops/attention.ts';
import { copyBytes, elementwisePrimitives } from './ops/elementwise.ts';
import { loraOps } from './ops/lora.ts';
import { matmul } from './ops/matmul.ts';
import { quantOps } from './ops/quant.ts';
import { reduce, scatterAdd } from './ops/reduce.ts';
import { rowOps } from './ops/rows.ts';
import { tryMatrices } from './probe.ts';
import { tune } from './tune.ts';

/** The contract's backend, and what WebGPU has beside. */
export interface WebGpuBackend extends Backend {
  readonly device: GPUDevice;
  readonly adapter: AdapterFacts;
  /** Kernels compiled so far. */
  readonly pipelines: () => number;
  /** Which kernel variants are in use, and why others are not. */
  readonly variants: () => { readonly name: string; readonly inUse: boolean; readonly reason?: string }[];
  /** Measures tiles of large products, some seconds; uses the fastest from then on. Give the answer to the next `webgpuBackend`. */
  tune(): Promise<Tuning>;
  /**
   * Nanoseconds that the device takes for the dispatches of `fn`, some 500 at most. Throws a LowrankError without the feature
   * `timestamp-query`.
   */
  gpuTime(fn: () => void): Promise<number>;
  /**
   * Times each dispatch from now on by itself, which makes all of them slower; what it returns ends that and tells. Throws a LowrankError
   * without the feature `timestamp-query`.
   */
  profile(): () => Promise<DispatchTime[]>;
}

/** Opens a backend on WebGPU. Throws a LowrankError that says why there is no device. */
export async function webgpuBackend(options: WebGpuOptions = {}): Promise<WebGpuBackend> {
  const adapter = options.device ? undefined : await findAdapter(options);
  const device = options.device ?? (await openDevice(adapter!, options.features));
  const info = adapter?.info ?? device.adapterInfo;
  const { backend, launcher } = createBackend(device, adapterFacts(info, device));
  launcher.variants.large = options.tuning?.large;
  await tryHalf(backend, launcher);
  await tryMatrices(backend, launcher, info);
  launcher.variants.useTiles(options.tuning?.matrix);
  return backend;
}

/** Whether a backend can be opened here, and on what. Never throws. */
export async function available(
  options: WebGpuOptions = {},
): Promise<{ readonly ok: true; readonly adapter: AdapterFacts } | { readonly ok: false; readonly reason: string }> {
  try {
    const adapter = await findAdapter(options);
    return { ok: true, adapter: adapterFacts(adapter.info, adapter) };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

function capabilities(device: GPUDevice, facts: AdapterFacts, matrices: boolean): Capabilities {
  const can = { store: true, compute: true };
  return {
    device: facts.name,
    dtypes: Object.fromEntries(
      dtypes.map((d) => [d, { ...can, fastMatmul: d === 'f32' || (d === 'f16' && matrices) }]),
    ) as unknown as Capabilities['dtypes'],
    preferredCompute: 'f32',
    limits: { maxBufferBytes: device.limits.maxBufferSize },
    features: [...device.features].sort(),
    asynchronous: true,
  };
}

/** Internal: a backend on an open device. `maxBinding` lowers the largest binding, for tests. */
export function createBackend(
  device: GPUDevice,
  facts: AdapterFacts,
  limits: { readonly maxBinding?: number } = {},
): { backend: WebGpuBackend; launcher: Launcher } {
  const gpu = new Gpu(device, limits.maxBinding);
  const stream = new Stream(gpu);
  const memory = new WebGpuMemory(gpu, stream);
  const scratch = new Scratch(memory);
  const another = () => new Scratch(memory);
  const scratches = { sums: scratch, weights: another(), pairs: another(), gradients: another() };
  const pipelines = new Pipelines(gpu, wgsl);
  const launcher = new Launcher(gpu, stream, pipelines);
  if (facts.fallback) Object.assign(launcher.variants, { software: true, apart: { f16: 32, f32: 32 } });
  memory.copyBytes = (...call) => copyBytes(launcher, ...call);
  const unpin = memory.unpin.bind(memory);
  const backend: WebGpuBackend = {
    name: 'webgpu',
    get caps() {
      return capabilities(device, facts, launcher.variants.matrix !== undefined);
    },
    device,
    adapter: facts,
    memory,
    primitives: {
      ...elementwisePrimitives(launcher),
      matmul: (call) => matmul(launcher, scratch, call),
      reduce: (call) => reduce(launcher, scratch, call),
      scatterAdd: (call) => scatterAdd(launcher, call),
    },
    fused: {
      ...rowOps(launcher),
      ...quantOps(launcher, scratches),
      ...attentionOps(launcher, scratches),
      ...loraOps(launcher, scratches),
    },
    record: {
      begin: () => stream.beginRecording(),
      end: () => stream.endRecording(unpin),
      abort: () => stream.takeRecording().buffers.forEach(unpin),
    },
    pipelines: () => pipelines.size,
    synchronize: async () => {
      if (stream.recording) throw new LowrankError('record', 'nothing can be waited for inside a recorded step');
      stream.flush();
      try {
        await gpu.queue.onSubmittedWorkDone();
      } catch (error) {
        throw await gpu.explain(error, 'synchronize');
      }
      await gpu.settle();
    },
    close: async () => {
      if (stream.recording) stream.takeRecording();
      gpu.close();
      await device.lost;
    },
    variants: () => launcher.variants.list(),
    refusals: () => launcher.variants.refusals(),
    tune: () => tune(backend, launcher),
    gpuTime: (fn) => deviceTime(gpu, stream, fn),
    profile: () => {
      needTimestamps(gpu, 'profile');
      stream.flush();
      const profile = (stream.profile = new Profile(device));
      return async () => {
        stream.profile = undefined;
        const times = await profile.read(stream);
        await gpu.settle();
        return times;
      };
    },
  };
  return { backend, launcher };
}
