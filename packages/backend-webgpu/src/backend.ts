import { type Backend, type Capabilities, type DeviceBuffer, dtypes, isFloat, LowrankError } from '@lowrank/kernels';
import { type AdapterFacts, adapterFacts, findAdapter, openDevice, type WebGpuOptions } from './adapter.ts';
import { wgsl } from './generated/wgsl.ts';
import { Gpu } from './gpu/gpu.ts';
import { Launcher } from './gpu/launcher.ts';
import { WebGpuMemory } from './gpu/memory.ts';
import { Pipelines } from './gpu/pipelines.ts';
import { Scratch } from './gpu/scratch.ts';
import { Stream } from './gpu/stream.ts';
import { copyBytes, elementwisePrimitives } from './ops/elementwise.ts';
import { matmul } from './ops/matmul.ts';
import { attentionOps } from './ops/attention.ts';
import { quantOps } from './ops/quant.ts';
import { reduce, scatterAdd } from './ops/reduce.ts';
import { rowOps } from './ops/rows.ts';

/** The contract's backend, and what WebGPU has beside. */
export interface WebGpuBackend extends Backend {
  readonly device: GPUDevice;
  readonly adapter: AdapterFacts;
  /** Nanoseconds that the device takes for the dispatches of `fn` (at most some 500). Throws without `timestamp-query`. */
  gpuTime(fn: () => void): Promise<number>;
}

export async function webgpuBackend(options: WebGpuOptions = {}): Promise<WebGpuBackend> {
  const adapter = options.device ? undefined : await findAdapter(options);
  const device = options.device ?? (await openDevice(adapter!, options.features));
  return createBackend(device, adapterFacts({ info: adapter?.info ?? device.adapterInfo, features: device.features, limits: device.limits }));
}

export function createBackend(device: GPUDevice, facts: AdapterFacts): WebGpuBackend {
  const gpu = new Gpu(device);
  const stream = new Stream(gpu);
  const memory = new WebGpuMemory(gpu, stream);
  const scratch = new Scratch(memory);
  const launcher = new Launcher(gpu, stream, new Pipelines(gpu, wgsl));
  memory.copyBytes = (from, fromOffset, to, toOffset, byteLength) => copyBytes(launcher, from, fromOffset, to, toOffset, byteLength);
  const caps: Capabilities = {
    device: facts.name,
    dtypes: Object.fromEntries(dtypes.map((d) => [d, { store: true, compute: true, fastMatmul: d === 'f32' }])) as never,
    preferredCompute: 'f32',
    limits: { maxBufferBytes: device.limits.maxBufferSize },
    features: [...device.features].sort(),
    asynchronous: true,
  };
  return {
    name: 'webgpu', caps, memory, device, adapter: facts,
    primitives: {
      ...elementwisePrimitives(launcher),
      matmul: (call: any) => matmul(launcher, scratch, call),
      reduce: (call: any) => reduce(launcher, scratch, call),
      scatterAdd: (call: any) => scatterAdd(launcher, call),
    } as never,
    fused: { ...rowOps(launcher), ...quantOps(launcher, scratch), ...attentionOps(launcher) },
    async synchronize() { stream.flush(); await gpu.queue.onSubmittedWorkDone(); await gpu.settle(); },
    async close() { stream.flush(); gpu.close(); },
    async gpuTime() { return 0; },
  };
}
