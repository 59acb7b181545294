/** A runner for the suites load and quality: bundled-job.ts BACKEND JSON. Loads models, trains the bundled one, says a result a case. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { folderSinks } from '@lowrank/formats/node';
import { LoraModel, saveAdapter } from '@lowrank/lora';
import { saveModel } from '@lowrank/merge';
import {
  type CausalLm,
  generate,
  loadConfig,
  loadModel,
  loadTokenizer,
  type ModelFiles,
  type Tokenizer,
} from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { BlockwiseWeight, toBnbTensors } from '@lowrank/nf4';
import { Device, type QuantType } from '@lowrank/tensor';
import {
  Dataset,
  encodeDataset,
  evaluate,
  ignored,
  selectParameters,
  type TrainableModel,
  Trainer,
} from '@lowrank/trainer';
import { readFileRecords } from '@lowrank/trainer/node';
import { z } from 'zod';
import { openBackend, reasonOf } from '../backends.ts';
import { environment, factsOf } from '../environment.ts';
import type { Message } from './protocol.ts';

const bundled = join(import.meta.dirname, '../../../bundled');

const bundledJob = z.strictObject({
  suite: z.enum(['load', 'quality']),
  cases: z.array(z.string()),
  /** A folder in the Hugging Face layout, for load. */
  model: z.string().optional(),
  repeats: z.int().positive(),
  steps: z.int().positive(),
  questions: z.int().positive(),
  seed: z.int(),
  threads: z.int().positive().optional(),
});
export type BundledJob = z.infer<typeof bundledJob>;

const tell = (m: Message) => process.stdout.write(`${JSON.stringify(m)}\n`);

type Storage = 'dense' | QuantType;

function load(device: Device, files: ModelFiles, storage: Storage, full = false): Promise<CausalLm> {
  return loadModel(device, files, {
    ...(full ? { weightDtype: 'f32' as const } : {}),
    ...(storage === 'dense'
      ? {}
      : {
          quantize: (_: string, values: Parameters<typeof BlockwiseWeight.quantize>[0]) =>
            BlockwiseWeight.quantize(values, { quantType: storage }),
        }),
  });
}

const forward = (model: CausalLm): Pick<TrainableModel, 'hidden' | 'head' | 'prepare'> => ({
  hidden: (ids, input) => model.hidden(ids, input),
  head: (rows) => model.head(rows),
  prepare: (length) => model.prepare(length),
});

/** `load nf4 bundled`: checkpoint to device, first step, adapter and model to files. */
async function measureLoad(
  device: Device,
  job: BundledJob,
  storage: Storage,
): Promise<Omit<Extract<Message, { event: 'result' }>, 'event' | 'name'>> {
  const folder = job.model ?? join(bundled, 'model');
  const files = await folderFiles(folder);
  const fileBytes = ['model.safetensors'].reduce(
    (sum, f) => sum + statSync(join(folder, f), { throwIfNoEntry: false })!.size,
    0,
  );
  const samples: number[] = [];
  let weights = 0;
  let top = 0;
  const watch = setInterval(() => (top = Math.max(top, process.memoryUsage.rss())), 5);
  const before = process.memoryUsage.rss();
  try {
    for (let i = 0; i < job.repeats; i++) {
      const start = performance.now();
      using model = await load(device, files, storage);
      await device.synchronize();
      samples.push(performance.now() - start);
      weights = device.memory().liveByClass.weights;
      top = Math.max(top, process.memoryUsage.rss());
      void model;
    }
  } finally {
    clearInterval(watch);
  }
  using model = await load(device, files, storage);
  using lora = new LoraModel(model, device);
  lora.addAdapter('default', { r: 16, loraAlpha: 32, targetModules: 'all-linear' });
  const { config, json } = await loadConfig(files);
  const ids = Int32Array.from({ length: 64 }, (_, i) => (i * 37) % config.vocabSize);
  const data = new Dataset([{ ids, labels: ids, where: 'counted' }], { padTokenId: 0 });
  const start = performance.now();
  {
    using trainer = new Trainer({
      device,
      model: { ...forward(model), parameters: () => lora.trainableParameters() },
      data,
      batchSize: 1,
      maxSteps: 1,
    });
    await trainer.train();
  }
  const first = performance.now() - start;
  const saving = performance.now();
  let adapterBytes = 0;
  for (const bytes of (await saveAdapter(lora, 'default')).values()) adapterBytes += bytes.byteLength;
  const adapterMs = performance.now() - saving;
  lora.dispose();
  const out = mkdtempSync(join(tmpdir(), 'lowrank-bench-'));
  const storing = performance.now();
  let saved = 0;
  try {
    const names = await saveModel(model, folderSinks(out), {
      config: json,
      ...(storage === 'nf4' || storage === 'fp4'
        ? { quantized: (name: string, w: unknown) => toBnbTensors(name, w as BlockwiseWeight, 'bf16') as never }
        : {}),
    });
    for (const name of names) saved += statSync(join(out, name)).size;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
  return {
    samples,
    work: { bytes: fileBytes },
    figures: {
      fileBytes,
      weightBytes: weights,
      hostPeakBytes: Math.max(0, top - before),
      firstStepMilliseconds: first,
      adapterSaveMilliseconds: adapterMs,
      adapterBytes,
      modelSaveMilliseconds: performance.now() - storing,
      modelBytes: saved,
    },
    notes: ['hostPeakBytes: growth of the process while loading; on the CPU backend the weights themselves are in it'],
  };
}

interface Texts {
  readonly train: Dataset;
  readonly held: Dataset;
}

/** Held-out requests that are answered exactly, greedily. */
async function exactShare(model: CausalLm, tokenizer: Tokenizer, held: Dataset, count: number): Promise<number> {
  const samples = held.samples.slice(0, count);
  const asked = samples.map((s) =>
    Array.from(s.ids).slice(
      0,
      s.labels.findIndex((l) => l !== ignored),
    ),
  );
  const expected = samples.map((s, i) =>
    tokenizer.decode(Array.from(s.ids).slice(asked[i]!.length), { skipSpecialTokens: true }).trim(),
  );
  const answers = new Array<string>(samples.length).fill('');
  for (let at = 0; at < asked.length; at += 32)
    for await (const { prompt, text } of generate(model, asked.slice(at, at + 32), { tokenizer, maxNewTokens: 64 }))
      answers[at + prompt] += text;
  return answers.filter((a, i) => a.trim() === expected[i]).length / samples.length;
}

/** `qlora nf4 r 16`, `lora r 4`, `full`: what trains, what it takes, what it reaches. */
async function measureQuality(
  device: Device,
  job: BundledJob,
  name: string,
  tokenizer: Tokenizer,
  texts: Texts,
): Promise<Omit<Extract<Message, { event: 'result' }>, 'event' | 'name'>> {
  const [, method, storage = 'dense', r = '16'] = /^(full|lora|qlora)(?: (nf4|fp4|int8))?(?: r (\d+))?$/.exec(name)!;
  device.pool.trim();
  device.pool.resetPeak();
  using model = await load(device, await folderFiles(join(bundled, 'model')), storage as Storage, method === 'full');
  using lora = method === 'full' ? undefined : new LoraModel(model, device);
  lora?.addAdapter(
    'default',
    { r: Number(r), loraAlpha: 2 * Number(r), targetModules: 'all-linear' },
    { seed: job.seed },
  );
  const trained = lora ? lora.trainableParameters() : device.withClass('weights', () => selectParameters(model));
  const trainee: TrainableModel = { ...forward(model), parameters: () => trained };
  let trainable = 0;
  for (const t of trained.values()) trainable += t.size;
  const counts = lora?.counts();
  let all = counts?.total ?? 0;
  if (!counts) for (const [, t] of model.namedParameters()) all += t.size;
  const before = await evaluate(device, trainee, texts.held);
  device.pool.resetPeak();
  const samples: number[] = [];
  let last = performance.now();
  let tokens = 0;
  const figures: Record<string, number> = {};
  {
    using trainer = new Trainer({
      device,
      model: trainee,
      data: texts.train,
      batchSize: 8,
      groupByLength: true,
      maxSteps: job.steps,
      // what suits each: the recipe's rate for adapters, a tenth for the weights themselves
      learningRate: method === 'full' ? 4e-4 : 4e-3,
      lrScheduler: 'linear',
      warmupSteps: Math.min(12, Math.ceil(job.steps / 5)),
      maxGradNorm: 1,
      seed: job.seed,
      onStep: async ({ inputTokens }) => {
        await device.synchronize();
        const now = performance.now();
        samples.push(now - last);
        tokens += inputTokens;
        last = now;
      },
    });
    const result = await trainer.train();
    const memory = result.memory;
    for (const [cls, bytes] of Object.entries(memory.peakByClass)) figures[`bytes.${cls}`] = bytes;
    figures.peakBytes = memory.peak;
    figures.loss = result.loss;
  }
  const held = await evaluate(device, trainee, texts.held);
  const score = await exactShare(model, tokenizer, texts.held, job.questions);
  let outputBytes = 0;
  if (lora) for (const bytes of (await saveAdapter(lora, 'default')).values()) outputBytes += bytes.byteLength;
  else for (const t of trained.values()) outputBytes += 2 * t.size;
  return {
    samples,
    work: { tokens: tokens / samples.length },
    figures: {
      ...figures,
      steps: job.steps,
      trainable,
      parameters: all,
      trainableShare: trainable / all,
      heldOutLossBefore: before.loss,
      heldOutLoss: held.loss,
      score,
      questions: Math.min(job.questions, texts.held.length),
      outputBytes,
    },
    notes: method === 'full' ? ['outputBytes: the whole model in bf16'] : [],
  };
}

try {
  const [name, json] = process.argv.slice(2) as [string, string];
  const job = bundledJob.parse(JSON.parse(json));
  const opened = await openBackend(name, { threads: job.threads });
  const facts = factsOf(opened);
  await using device = new Device(opened);
  const { packages } = environment();
  tell({ event: 'ready', device: facts.device, driver: facts.driver, features: facts.features, packages });
  if (job.suite === 'load')
    for (const c of job.cases)
      tell({ event: 'result', name: c, ...(await measureLoad(device, job, c.split(' ')[0] as Storage)) });
  else {
    const files = await folderFiles(join(bundled, 'model'));
    const tokenizer = await loadTokenizer(files);
    const read = (file: string) =>
      encodeDataset(readFileRecords(join(bundled, 'instructions', file)), tokenizer, { contextLength: 512 });
    const texts = { train: await read('train.jsonl'), held: (await read('heldout.jsonl')).slice(0, job.questions) };
    for (const c of job.cases)
      tell({ event: 'result', name: c, ...(await measureQuality(device, job, c, tokenizer, texts)) });
  }
  tell({ event: 'done', figures: {}, notes: [] });
} catch (error) {
  tell({ event: 'failed', reason: reasonOf(error) });
}
process.exit(0);
