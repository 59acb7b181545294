/**
 * Whole training steps on one backend, a JSON line a case: node --conditions=source benchmarks/src/steps-main.ts [--backend cuda] [--cases name,…]
 * [--steps 10 [--last 5: those that count]] [--out FILE]. --layers, --batch, --length and --vocabulary make a case smaller. --profile FILE adds
 * a line for each kernel and size of the step before those that count, where the backend has timestamps.
 */
import { appendFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { DispatchTime, WebGpuBackend } from '@lowrank/backend-webgpu';
import type { Backend, FloatDType, RecomputePolicy } from '@lowrank/tensor';
import { Device } from '@lowrank/tensor';
import { type ShapeName, shapeOf } from './shapes.ts';
import { measureTrainStep } from './train-step.ts';

const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: 'cuda' },
    cases: { type: 'string' },
    steps: { type: 'string', default: '10' },
    last: { type: 'string' },
    out: { type: 'string' },
    layers: { type: 'string' },
    batch: { type: 'string' },
    length: { type: 'string' },
    vocabulary: { type: 'string' },
    dtype: { type: 'string' },
    'chunk-rows': { type: 'string' },
    profile: { type: 'string' },
  },
});

interface Case {
  readonly shape: ShapeName;
  readonly method: 'lora' | 'qlora';
  readonly batch: number;
  readonly length: number;
  readonly recompute: RecomputePolicy;
  readonly offload?: boolean;
}

const cases: Record<string, Case> = {
  'smol-lora-1x512': { shape: 'smollm2-135m', method: 'lora', batch: 1, length: 512, recompute: 'none' },
  'smol-qlora-8x512': { shape: 'smollm2-135m', method: 'qlora', batch: 8, length: 512, recompute: 'none' },
  'smol-qlora-8x512-block': { shape: 'smollm2-135m', method: 'qlora', batch: 8, length: 512, recompute: 'block' },
  '1b-qlora-1x512': { shape: 'llama-3.2-1b', method: 'qlora', batch: 1, length: 512, recompute: 'block' },
  '8b-qlora-4-block': { shape: 'llama-3.1-8b', method: 'qlora', batch: 4, length: 2048, recompute: 'block' },
  '8b-qlora-4-selective': { shape: 'llama-3.1-8b', method: 'qlora', batch: 4, length: 2048, recompute: 'selective' },
  '8b-qlora-1-block': { shape: 'llama-3.1-8b', method: 'qlora', batch: 1, length: 2048, recompute: 'block' },
  '8b-qlora-4-block-offload': {
    shape: 'llama-3.1-8b',
    method: 'qlora',
    batch: 4,
    length: 2048,
    recompute: 'block',
    offload: true,
  },
  '8b-qlora-4-selective-offload': {
    shape: 'llama-3.1-8b',
    method: 'qlora',
    batch: 4,
    length: 2048,
    recompute: 'selective',
    offload: true,
  },
  '8b-qlora-1-selective-offload': {
    shape: 'llama-3.1-8b',
    method: 'qlora',
    batch: 1,
    length: 2048,
    recompute: 'selective',
    offload: true,
  },
  '8b-qlora-2-selective': { shape: 'llama-3.1-8b', method: 'qlora', batch: 2, length: 2048, recompute: 'selective' },
  '8b-lora-4-selective-offload': {
    shape: 'llama-3.1-8b',
    method: 'lora',
    batch: 4,
    length: 2048,
    recompute: 'selective',
    offload: true,
  },
  '8b-lora-2-selective': { shape: 'llama-3.1-8b', method: 'lora', batch: 2, length: 2048, recompute: 'selective' },
  'smol-qlora-8x512-selective': {
    shape: 'smollm2-135m',
    method: 'qlora',
    batch: 8,
    length: 512,
    recompute: 'selective',
  },
  '8b-qlora-2-none': { shape: 'llama-3.1-8b', method: 'qlora', batch: 2, length: 2048, recompute: 'none' },
  '8b-lora-4-block': { shape: 'llama-3.1-8b', method: 'lora', batch: 4, length: 2048, recompute: 'block' },
  '8b-lora-2-none': { shape: 'llama-3.1-8b', method: 'lora', batch: 2, length: 2048, recompute: 'none' },
};

async function open(name: string): Promise<Backend> {
  if (name === 'cpu') return (await import('@lowrank/backend-cpu')).cpuBackend();
  if (name === 'cuda') return (await import('@lowrank/backend-cuda')).cudaBackend();
  if (name === 'webgpu') return (await import('@lowrank/backend-webgpu')).webgpuBackend();
  throw new TypeError(`no backend of this name: ${name}`);
}

/** A backend that times each dispatch. */
type Profiled = Backend & Pick<WebGpuBackend, 'profile'>;

/** Lines of a profile: dispatches of one kernel and size together, the dearest first. */
function profileLines(name: string, times: readonly DispatchTime[]): object[] {
  const kinds = new Map<string, { order: number; count: number; microseconds: number }>();
  for (const [order, { op, file, groups, nanoseconds }] of times.entries()) {
    const key = `${op} ${file} ${groups.join(',')}`;
    const kind = kinds.get(key) ?? { order, count: 0, microseconds: 0 };
    kinds.set(key, { ...kind, count: kind.count + 1, microseconds: kind.microseconds + nanoseconds / 1000 });
  }
  return [...kinds]
    .sort(([, a], [, b]) => b.microseconds - a.microseconds)
    .map(([key, { order, count, microseconds }]) => {
      const [part, kernel, grid] = key.split(' ');
      const mean = Math.round((microseconds / count) * 10) / 10;
      return { kind: 'profile', case: name, part, order, kernel, grid, count, microseconds: mean };
    });
}

const names = values.cases ? values.cases.split(',') : Object.keys(cases);
for (const name of names) {
  const c = cases[name];
  if (!c) throw new TypeError(`no such case: ${name}. There are: ${Object.keys(cases).join(', ')}`);
  const device = new Device(await open(values.backend));
  const dtype = (values.dtype ?? device.backend.caps.preferredCompute) as FloatDType;
  const { LOWRANK_COMMIT, LOWRANK_GPU, LOWRANK_DRIVER } = process.env;
  const made = {
    commit: LOWRANK_COMMIT,
    gpu: LOWRANK_GPU,
    driver: LOWRANK_DRIVER,
    at: LOWRANK_COMMIT && new Date().toISOString(),
    command: `steps-main ${process.argv.slice(2).join(' ')}`,
  };
  let line: object;
  const { profile } = device.backend as Partial<Profiled>;
  const profiled = values.profile && profile ? Number(values.steps) - Number(values.last ?? 1) - 1 : undefined;
  let timed = 0;
  let stop: (() => Promise<DispatchTime[]>) | undefined;
  let times: Promise<DispatchTime[]> | undefined;
  try {
    const shape = shapeOf(c.shape, values.layers ? Number(values.layers) : undefined);
    const config = values.vocabulary ? { ...shape, vocabSize: Number(values.vocabulary) } : shape;
    const r = await measureTrainStep(device, {
      config,
      method: c.method,
      batch: values.batch ? Number(values.batch) : c.batch,
      length: values.length ? Number(values.length) : c.length,
      rank: 16,
      recompute: c.recompute,
      dtype,
      steps: Number(values.steps),
      ...(c.offload ? { offload: true } : {}),
      ...(values['chunk-rows'] ? { chunkRows: Number(values['chunk-rows']) } : {}),
      next: async () => {
        if (timed === profiled) stop = profile!();
        return true;
      },
      onTimed: () => {
        timed++;
        times ??= stop?.();
      },
    });
    if (times)
      for (const part of profileLines(name, await times))
        appendFileSync(values.profile!, `${JSON.stringify({ ...part, ...made })}\n`);
    const all = (list: readonly number[]) => [...list].sort((a, b) => a - b)[list.length >> 1]!;
    const median = (list: readonly number[]) => all(values.last ? list.slice(-Number(values.last)) : list);
    line = {
      case: name,
      ...made,
      backend: device.backend.name,
      device: device.backend.caps.device,
      dtype,
      medianMs: median(r.milliseconds),
      enqueueMs: median(r.enqueueMilliseconds),
      enqueueShare: median(r.enqueueMilliseconds) / median(r.milliseconds),
      tokensPerSecond: (r.tokensPerSecond * all(r.milliseconds)) / median(r.milliseconds),
      peakGiB: r.peakBytes / 2 ** 30,
      reservedGiB: r.reservedBytes / 2 ** 30,
      tflops: (r.flopsPerSecond * all(r.milliseconds)) / median(r.milliseconds) / 1e12,
      loss: r.loss,
      milliseconds: values.last ? r.milliseconds.slice(-Number(values.last)) : r.milliseconds,
      fallbacks: device.explain(),
      leaked: device.memory().live,
    };
  } catch (error) {
    line = { case: name, ...made, error: error instanceof Error ? error.stack : String(error) };
  }
  console.log(JSON.stringify(line));
  if (values.out) appendFileSync(values.out, `${JSON.stringify(line)}\n`);
  await device.close().catch(() => {});
}
process.exit(0);
