/**
 * A process that trains on CUDA, to be stopped, starved and broken: node fault-run.mjs MODE FOLDER. Modes:
 *   train   trains to `steps`, saving every second step in FOLDER and going on from what is there; ends with a hash of the adapter
 *   oom     trains with a batch that does not fit, then with one that does, in the same process
 *   grow    trains `steps` steps and says what memory it held early and late
 * What it trains is in LOWRANK_FAULT as JSON (see `Settings`). `faultAt`: after that step a kernel writes outside all memory (on a GPU only).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type ShapeName, shapeOf } from '../../benchmarks/src/shapes.ts';
import { backendOn } from '../../packages/backend-cuda/src/backend.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { onInterrupt } from '../../packages/cli/src/run/interrupt.ts';
import { LoraModel } from '../../packages/lora/src/index.ts';
import { CausalLm, type DecoderConfig, readConfig } from '../../packages/models/src/index.ts';
import { BlockwiseWeight } from '../../packages/nf4/src/index.ts';
import { Device, keep, scope } from '../../packages/tensor/src/index.ts';
import { Dataset, Trainer } from '../../packages/trainer/src/index.ts';
import { FolderCheckpoints } from '../../packages/trainer/src/node.ts';
import { processBytes } from './record.ts';

interface Settings {
  /** A public shape, or a tiny one. */
  readonly shape: ShapeName | 'tiny';
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
  readonly tooMany: number;
  /** Bytes that are held besides while too much is asked for. */
  readonly filler: number;
  readonly dtype: 'f32' | 'bf16';
  readonly faultAt?: number;
}

const [mode, folder = ''] = process.argv.slice(2);
const defaults: Settings = { shape: 'tiny', steps: 8, batch: 1, length: 8, tooMany: 64, filler: 0, dtype: 'f32' };
const o: Settings = { ...defaults, ...JSON.parse(process.env.LOWRANK_FAULT ?? '{}') };
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

const config: DecoderConfig =
  o.shape === 'tiny'
    ? readConfig({
        model_type: 'llama',
        vocab_size: 32,
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        rms_norm_eps: 1e-5,
        rope_theta: 10000,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
      })
    : shapeOf(o.shape);

function rows(count: number): Dataset {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % config.vocabSize;
  };
  const sample = () => {
    const ids = Int32Array.from({ length: o.length }, next);
    return { ids, labels: ids, where: 'random' };
  };
  return new Dataset(Array.from({ length: count }, sample), { padTokenId: 0 });
}

const cuda = CudaDevice.open({});
const device = new Device(backendOn(cuda));
let site = 0;
const random = (shape: readonly number[]) =>
  device.withClass('weights', () =>
    keep(scope(() => device.random(shape, { seed: 1, site: ++site, dtype: o.dtype }).affine(0.05, 0))),
  );
const model = await CausalLm.create(
  device,
  config,
  {
    linear: async (_, shape) => {
      using values = random(shape);
      return BlockwiseWeight.quantize(values);
    },
    tensor: async (name, shape) =>
      name.includes('norm')
        ? device.withClass('weights', () => keep(device.full(shape, 1, o.dtype)))
        : keep(random(shape)),
  },
  { computeDtype: o.dtype },
);
const lora = new LoraModel(model, device);
lora.addAdapter('default', { r: 4, loraAlpha: 8, targetModules: 'all-linear' });
const trained = lora.trainableParameters();

function trainer(more: Partial<ConstructorParameters<typeof Trainer>[0]>): Trainer {
  return new Trainer({
    device,
    model: {
      parameters: () => trained,
      hidden: (ids, input) => model.hidden(ids, input),
      head: (x) => model.head(x),
      prepare: (n) => model.prepare(n),
    },
    data: rows(4 * o.batch),
    batchSize: o.batch,
    maxSteps: o.steps,
    learningRate: 1e-3,
    padToMultipleOf: 1,
    ...more,
  });
}

/** A launch that the addon lets through, since its range is inside the memory, and that reaches far outside by its strides. */
function breakKernel(): void {
  const { handle } = cuda.allocate(256);
  const list = cuda.launch('fill_strided', [1], 32).pointer({ memory: handle, offset: 0, bytes: 256 });
  cuda.done(
    list
      .shape([16])
      .strides([2 ** 44])
      .u32(7)
      .i32(4),
  );
}

async function adapterHash(): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, t] of trained) hash.update(name).update(new Uint8Array((await t.toArray()).buffer));
  return hash.digest('hex').slice(0, 16);
}

async function train(): Promise<void> {
  using interrupt = onInterrupt((signal) => say({ signal }));
  using t = trainer({
    signal: interrupt.signal,
    checkpoints: new FolderCheckpoints(folder, { keep: 1000 }),
    saveSteps: 2,
    loggingSteps: 2,
    onStep: ({ step }) => {
      say({ step });
      if (step === o.faultAt) breakKernel();
    },
  });
  say({ from: (await t.resume()) ?? 0 });
  const { stopped, step } = await t.train();
  say({ stopped, at: step, recorded: t.recorded, adapter: await adapterHash() });
}

async function tooMuch(): Promise<void> {
  model.prepare(o.length); // the rotation tables stay
  const before = device.memory();
  // The driver without a GPU: as if others held all the rest for a while.
  process.env.FAKE_CUDA_MEMORY = String(cuda.native.deviceStatus(cuda.handle).deviceBytes + 1e6);
  try {
    using _ = o.filler ? keep(device.empty([o.filler], 'u8', 'data')) : undefined;
    using t = trainer({ data: rows(o.tooMany), batchSize: o.tooMany, maxSteps: 1 });
    await t.train();
    say({ fitted: true });
  } catch (error) {
    say({ error: (error as Error).message });
  }
  const after = device.memory();
  delete process.env.FAKE_CUDA_MEMORY;
  say({ liveBefore: before.live, liveAfter: after.live });
  using t = trainer({ maxSteps: 3 });
  const { step, loss } = await t.train();
  say({ smaller: step, loss, finite: Number.isFinite(loss) });
}

async function grow(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const early = Math.floor(o.steps / 4);
  const sample = async (step: number) => {
    await device.synchronize();
    for (let i = 0; i < 3; i++) {
      collect();
      await new Promise((done) => setTimeout(done, 20));
    }
    const { reserved, live } = device.memory();
    const status = cuda.native.deviceStatus(cuda.handle);
    const { heapUsed, external } = process.memoryUsage();
    const resident = processBytes(readFileSync('/proc/self/status', 'utf8'), 'VmRSS');
    say({ sample: step, reserved, live, ...status, heapUsed, external, resident });
  };
  using t = trainer({
    loggingSteps: 50,
    onStep: async ({ step }) => {
      if (step === early || step === o.steps) await sample(step);
    },
  });
  const { loss } = await t.train();
  say({ done: o.steps, loss, finite: Number.isFinite(loss) });
}

try {
  await { train, oom: tooMuch, grow }[mode as 'train']();
} catch (error) {
  say({ error: (error as Error).message });
  process.exitCode = 3;
}
try {
  lora.dispose();
  model.dispose();
  await device.close();
  say({ closed: true });
} catch (error) {
  say({ closed: false, error: (error as Error).message });
}
