import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { bytesSource, openSafetensors } from '@lowrank/formats';
import { CausalLm, readConfig } from '@lowrank/models';
import {
  type Backend,
  cast,
  DenseWeight,
  Device,
  type DeviceOptions,
  dropout,
  keep,
  type Linear,
  type LinearAdapter,
  type Module,
  type Tensor,
} from '@lowrank/tensor';
import { expect } from 'vitest';
import { Dataset, type TrainableModel, Trainer, type TrainerOptions } from '../src/index.ts';

const fixtures = resolve(import.meta.dirname, '../../../fixtures');

/** A device on the CPU backend; at the end nothing may be left on it. */
export async function withDevice(
  run: (device: Device) => Promise<void>,
  options: DeviceOptions & { wrap?: (backend: Backend) => Backend } = {},
): Promise<void> {
  const backend = await cpuBackend({ threads: 1 });
  const device = new Device(options.wrap ? options.wrap(backend) : backend, options);
  await run(device);
  expect(device.memory().live).toBe(0);
  await device.close();
}

export interface Numbers {
  readonly data: Float32Array;
  readonly ints: Int32Array;
  readonly shape: readonly number[];
}

/** The tensors of a safetensors file of fixtures. */
export async function readTensors(path: string): Promise<Map<string, Numbers>> {
  const file = await openSafetensors(bytesSource(new Uint8Array(readFileSync(join(fixtures, path)))));
  const out = new Map<string, Numbers>();
  for (const [name, { shape }] of file.tensors) {
    const bytes = (await file.read(name)).slice();
    out.set(name, { data: new Float32Array(bytes.buffer), ints: new Int32Array(bytes.buffer), shape });
  }
  return out;
}

export const readJson = (path: string) => JSON.parse(readFileSync(join(fixtures, path), 'utf8'));

/** The tiny model of `fixtures/families/<name>`, whole in f32. */
export async function tinyModel(device: Device, name = 'llama'): Promise<CausalLm> {
  const weights = await readTensors(`families/${name}/model.safetensors`);
  const make = (key: string) => {
    const { data, shape } = weights.get(key)!;
    return device.withClass('weights', () => device.tensor(data, { shape }));
  };
  return CausalLm.create(device, readConfig(readJson(`families/${name}/config.json`)), {
    linear: async (key) => new DenseWeight(make(key)),
    tensor: async (key) => make(key),
  });
}

/** A low-rank adapter on a layer, as small as it can be: the trainer needs no package for it. */
class TinyAdapter implements LinearAdapter {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly scale: number;
  /** p of dropout on x, its seed and its place; off where p is 0. */
  drop: { p: number; seed: Tensor | undefined; site: number } = { p: 0, seed: undefined, site: 0 };

  constructor(a: Tensor, b: Tensor, scale: number) {
    this.a = a.requireGrad();
    this.b = b.requireGrad();
    this.scale = scale;
  }

  lowRank() {
    return this.drop.p > 0 ? undefined : this;
  }

  forward(x: Tensor, base: (x: Tensor) => Tensor): Tensor {
    const { p, seed, site } = this.drop;
    const z = p > 0 ? dropout(x, p, seed!, site) : x;
    const low = cast(z, 'f32').matmul(this.a.transpose()).matmul(this.b.transpose());
    return base(x).add(cast(low.mul(this.scale), x.dtype));
  }
}

/** Adapters from a PEFT file's tensors, attached to the model; by PEFT's key without its prefix. */
export function attach(model: Module, device: Device, tensors: Map<string, Numbers>, scale: number) {
  const parameters = new Map<string, Tensor>();
  const adapters: TinyAdapter[] = [];
  for (const [key, { data, shape }] of tensors) {
    const path = /^base_model\.model\.(.*)\.lora_A\.weight$/.exec(key)?.[1];
    if (!path) continue;
    const b = tensors.get(key.replace('lora_A', 'lora_B'))!;
    const make = (d: Float32Array, s: readonly number[]) =>
      keep(device.withClass('adapters', () => device.tensor(d, { shape: s })));
    const adapter = new TinyAdapter(make(data, shape), make(b.data, b.shape), scale);
    (model.at(path) as Linear).adapter = adapter;
    adapters.push(adapter);
    parameters.set(key, adapter.a).set(key.replace('lora_A', 'lora_B'), adapter.b);
  }
  return {
    parameters,
    adapters,
    dispose: () => {
      for (const t of parameters.values()) t.dispose();
    },
  };
}

/** What the trainer asks of a decoder. */
export function trainable(
  model: CausalLm,
  parameters: ReadonlyMap<string, Tensor>,
  setTraining?: (on: boolean) => void,
): TrainableModel {
  return {
    parameters: () => parameters,
    hidden: (ids, input) => model.hidden(ids, input),
    head: (rows) => model.head(rows),
    prepare: (length) => model.prepare(length),
    ...(setTraining ? { setTraining } : {}),
  };
}

/** Batches of fixtures/peft-tiny, a sample a row, in order: a data set that gives the very same batches again. */
export async function recordedData(): Promise<{ data: Dataset; batchSize: number; length: number }> {
  const tensors = await readTensors('peft-tiny/batches.safetensors');
  const { ints: ids, shape } = tensors.get('input_ids')!;
  const { ints: labels } = tensors.get('labels')!;
  const [steps, batchSize, length] = shape as [number, number, number];
  const samples = Array.from({ length: steps * batchSize }, (_, i) => ({
    ids: ids.slice(i * length, i * length + length),
    labels: labels.slice(i * length, i * length + length),
    where: `row ${i}`,
  }));
  return { data: new Dataset(samples, { padTokenId: 2 }), batchSize, length };
}

/** Small random samples; the first tokens of each are a prompt. */
export function randomData(
  count: number,
  options: { seed?: number; vocabulary?: number; longest?: number } = {},
): Dataset {
  const { seed = 1, vocabulary = 128, longest = 24 } = options;
  let state = seed;
  const random = (n: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const samples = Array.from({ length: count }, (_, i) => {
    const ids = Int32Array.from({ length: 4 + random(longest - 3) }, () => 3 + random(vocabulary - 3));
    const prompt = 1 + random(3);
    return { ids, labels: ids.map((id, t) => (t < prompt ? -100 : id)), where: `sample ${i}` };
  });
  return new Dataset(samples, { padTokenId: 2 });
}

/** ‖a − b‖ / ‖b‖ */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}

export const adapterFile = 'peft-tiny/lora/adapter/adapter_model.safetensors';

interface Run {
  readonly trainer: Trainer;
  readonly model: TrainableModel;
  readonly parameters: ReadonlyMap<string, Tensor>;
}

/** A trainer of the tiny LoRA model, cleaned up afterwards. Dropout of `p` on every adapter. */
export async function withTrainer<T>(
  device: Device,
  options: Partial<TrainerOptions> & { p?: number },
  use: (run: Run) => Promise<T>,
): Promise<T> {
  const { p = 0, ...rest } = options;
  const base = await tinyModel(device);
  const lora = attach(base, device, await readTensors(adapterFile), 2);
  const dropoutSeed = p > 0 ? device.seed(0) : undefined;
  const model = trainable(base, lora.parameters, (on) => {
    for (const [site, a] of lora.adapters.entries()) a.drop = { p: on ? p : 0, seed: dropoutSeed, site };
  });
  const data = rest.data ?? randomData(20);
  const trainer = new Trainer({ device, model, data, batchSize: 4, learningRate: 1e-2, dropoutSeed, ...rest });
  try {
    return await use({ trainer, model, parameters: lora.parameters });
  } finally {
    trainer.dispose();
    dropoutSeed?.dispose();
    lora.dispose();
    base.dispose();
  }
}
