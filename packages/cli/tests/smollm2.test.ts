import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { folderSinks } from '@lowrank/formats/node';
import { LoraModel, peftTensors } from '@lowrank/lora';
import { loadAdapterFolder, saveAdapterFolder } from '@lowrank/lora/node';
import { mergeAdapter, saveModel } from '@lowrank/merge';
import { type CausalLm, loadModel, loadTokenizer } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { BlockwiseWeight, fromBnbTensors, toBnbTensors } from '@lowrank/nf4';
import { Device, keep, noGrad, type RecomputePolicy, scope } from '@lowrank/tensor';
import { encodeDataset, Trainer } from '@lowrank/trainer';
import { readFileRecords } from '@lowrank/trainer/node';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { fmix32, formulaAdapter } from '../../../scripts/testing/formula-adapter.ts';
import { modelsDir, need, pythonPath, sharedPath } from '../../../scripts/testing/shared.ts';
import { temporary } from './cli.ts';
import { clientLogits, farthest } from './real-clients.ts';

/** The recorded run of scripts/reference/smollm2_train.py --initial formula. */
interface Recorded {
  losses: number[];
  tokens: number[];
  gradNorms: number[];
  lr: number;
  finalNorms: Record<string, number>;
  /** Sums with random signs: see smollm2_record.py. */
  finalSketch: Record<string, number[]>;
}

const root = join(import.meta.dirname, '../../..');
const dir = temporary();
const models = modelsDir();
const data = sharedPath('data/gsm8k/train.jsonl');
const python = pythonPath();
let device: Device;
beforeAll(async () => {
  device = new Device(await cpuBackend());
});
afterEach(() => expect(device.memory().live, 'leaked bytes').toBe(0));
afterAll(() => device.close());

async function load(folder: string, base: 'dense' | 'bnb'): Promise<CausalLm> {
  const files = await folderFiles(
    join(folder, base === 'dense' ? 'SmolLM2-135M-Instruct' : 'SmolLM2-135M-Instruct-bnb-4bit'),
  );
  return loadModel(device, files, {
    computeDtype: 'f32',
    blockwise: (name, names, read) => fromBnbTensors(device, name, names, read),
  });
}

/** ‖x − y‖ of a tensor x and one of which only the sketch is there, good to a fifth. */
function distance(x: Float32Array, sketch: readonly number[]): number {
  let squares = 0;
  for (const [j, theirs] of sketch.entries()) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += fmix32(j * 2 ** 24 + i) & 1 ? -x[i]! : x[i]!;
    squares += (sum - theirs) ** 2;
  }
  return Math.sqrt(squares / sketch.length);
}

async function train(
  model: CausalLm,
  lora: LoraModel,
  folder: string,
  rows: string,
  steps: number,
  options: { recompute?: RecomputePolicy; accumulate?: number; batch?: number } = {},
) {
  const tokenizer = await loadTokenizer(await folderFiles(join(folder, 'SmolLM2-135M-Instruct')));
  const { accumulate = 1, batch = 1 } = options;
  const records: object[] = [];
  for await (const { value } of readFileRecords(rows)) if (records.push(value) === steps * accumulate * batch) break;
  const set = await encodeDataset(records, tokenizer, {
    prompt: '{question}\n',
    completion: '{answer}',
    maxLength: 256,
  });
  const steps_: { loss: number; gradNorm: number; tokens: number }[] = [];
  const trainer = new Trainer({
    device,
    model: {
      parameters: () => lora.trainableParameters(),
      hidden: (ids, input) => model.hidden(ids, input),
      head: (r) => model.head(r),
      prepare: (n) => model.prepare(n),
    },
    data: set,
    batchSize: batch,
    gradientAccumulationSteps: accumulate,
    maxSteps: steps,
    shuffle: false,
    learningRate: 5e-4,
    lrScheduler: 'constant',
    recompute: options.recompute ?? 'none',
    onLog: ({ loss, gradNorm, tokens }) => void steps_.push({ loss, gradNorm, tokens }),
  });
  await trainer.train();
  trainer.dispose();
  return steps_;
}

const relative = (a: number, b: number) => Math.abs(a - b) / Math.abs(b);

describe.each(['dense', 'bnb'] as const)('SmolLM2-135M-Instruct, %s base: LoRA as PEFT trains it', (base) => {
  test('20 losses and the final adapter are those of PEFT within 1e-3', { timeout: 900_000 }, async (context) => {
    const folder = need(context, models);
    const rows = need(context, data);
    const want = JSON.parse(readFileSync(join(root, `fixtures/smollm2/train-${base}-1.json`), 'utf8')) as Recorded;
    const model = await load(folder, base);
    const lora = formulaAdapter(model, device);
    const got = await train(model, lora, folder, rows, want.losses.length);
    expect(got.map((s) => s.tokens)).toEqual(want.tokens);
    const worst = Math.max(...got.map((s, i) => relative(s.loss, want.losses[i]!)));
    const final = peftTensors(lora, lora.adapters.get('default')!);
    expect([...final.keys()].sort()).toEqual(Object.keys(want.finalNorms));
    // Adam's first step goes 2·lr apart where a gradient is rounding alone: PEFT on AVX2 and PEFT on AVX-512 part so in some forty tensors
    const noise = Math.sqrt(10) * 2 * want.lr;
    let [apart, norms, largest] = [0, 0, 0];
    for (const [key, tensor] of final) {
      const norm = want.finalNorms[key]!;
      const own = distance((await tensor.toArray()) as Float32Array, want.finalSketch[key]!);
      expect(own, key).toBeLessThan(1e-3 * norm + noise);
      apart += own ** 2;
      norms += norm ** 2;
      largest = Math.max(largest, own / norm);
    }
    const together = Math.sqrt(apart / norms);
    console.log(
      `SmolLM2 ${base}: largest relative difference from PEFT in ${got.length} losses ${worst.toExponential(1)}; of the final tensors together ${together.toExponential(1)} of their norm, of one of them at most ${largest.toExponential(1)}`,
    );
    expect(worst).toBeLessThan(1e-3);
    expect(together).toBeLessThan(1e-3);
    lora.dispose();
    model.dispose();
  });
});

test('recompute and accumulation change nothing', { timeout: 600_000 }, async (context) => {
  const folder = need(context, models);
  const rows = need(context, data);
  const losses: Record<string, number[]> = {};
  for (const [name, options] of [
    ['none', {}],
    ['selective', { recompute: 'selective' }],
    ['block', { recompute: 'block' }],
  ] as const) {
    const model = await load(folder, 'bnb');
    const lora = formulaAdapter(model, device);
    losses[name] = (await train(model, lora, folder, rows, 2, options)).map((s) => s.loss);
    lora.dispose();
    model.dispose();
  }
  expect(losses.selective).toEqual(losses.none);
  expect(losses.block).toEqual(losses.none);
  for (const [name, options] of [
    ['whole', { batch: 2 }],
    ['parts', { accumulate: 2 }],
  ] as const) {
    const model = await load(folder, 'dense');
    const lora = formulaAdapter(model, device);
    losses[name] = (await train(model, lora, folder, rows, 2, options)).map((s) => s.loss);
    lora.dispose();
    model.dispose();
  }
  for (const [i, loss] of losses.parts!.entries()) expect(relative(loss, losses.whole![i]!)).toBeLessThan(1e-5);
});

test('PEFT, transformers and bitsandbytes load the adapter, the merged model and the 4-bit checkpoint, with our logits', {
  timeout: 900_000,
}, async (context) => {
  const folder = need(context, models);
  const rows = need(context, data);
  const interpreter = need(context, python);
  const base = join(folder, 'SmolLM2-135M-Instruct');
  const config = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8'));
  const tokenizer = await loadTokenizer(await folderFiles(base));
  const prompts = ['The capital of France is', 'Natalia sold clips to 48 of her friends in April, and then'].map(
    (text) => ({ ids: tokenizer.encode(text), positions: [3] }),
  );
  const logits = async (model: CausalLm) => {
    const out: Float32Array[] = [];
    for (const { ids, positions } of prompts) {
      using y = noGrad(() =>
        keep(
          scope(() => {
            const hidden = model.hidden(device.tensor([ids], { dtype: 'i32' })).reshape([ids.length, -1]);
            return model.head(hidden.slice(0, positions[0]!, positions[0]! + 1));
          }),
        ),
      );
      out.push(((await y.toArray()) as Float32Array).slice());
    }
    return out;
  };
  const compare = (name: string, ours: Float32Array[], other: Float32Array[]) => {
    const worst = farthest(ours, other);
    console.log(`SmolLM2 ${name}: largest logit difference ${worst.toExponential(1)}`);
    expect(worst, name).toBeLessThan(1e-3);
  };

  const model = await load(folder, 'dense');
  const lora = formulaAdapter(model, device);
  await train(model, lora, folder, rows, 2);
  await saveAdapterFolder(lora, 'default', join(dir, 'adapter'));
  const adapted = await logits(model);
  const report = await mergeAdapter(lora, { dense: 'f32' });
  await saveModel(model, folderSinks(join(dir, 'merged')), { config, dtype: 'f32' });
  const merged = await logits(model);
  for (const part of [report, lora, model]) part.dispose();

  const requantized = await loadModel(device, await folderFiles(join(dir, 'merged')), {
    computeDtype: 'f32',
    weightDtype: 'f32',
    quantize: (_, values) => BlockwiseWeight.quantize(values),
  });
  await saveModel(requantized, folderSinks(join(dir, 'nf4')), {
    config,
    dtype: 'f32',
    quantized: (name, w) => toBnbTensors(name, w as BlockwiseWeight, 'f32'),
  });
  const quantized = await logits(requantized);
  requantized.dispose();

  const theirs = await clientLogits(interpreter, prompts, [
    { model: base, adapter: join(dir, 'adapter') },
    { model: join(dir, 'merged') },
    { model: join(dir, 'nf4') },
  ]);
  compare('adapter in PEFT', adapted, theirs[0]!);
  compare('merged model in transformers', merged, theirs[1]!);
  compare('4-bit checkpoint in bitsandbytes', quantized, theirs[2]!);

  // and back: the adapter that PEFT could read loads here to the same logits
  const again = await load(folder, 'dense');
  const restored = new LoraModel(again, device);
  await loadAdapterFolder(restored, join(dir, 'adapter'));
  compare('adapter read back', await logits(again), adapted);
  restored.dispose();
  again.dispose();
});
