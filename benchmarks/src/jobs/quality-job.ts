/** Trains a model by one method and tells what trains, what it takes and what it reaches: quality-job.ts BACKEND JSON. */
import { join } from 'node:path';
import { LoraModel, saveAdapter } from '@lowrank/lora';
import { type CausalLm, generate, loadTokenizer, type Tokenizer } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import type { Device } from '@lowrank/tensor';
import {
  type Dataset,
  encodeDataset,
  evaluate,
  ignored,
  selectParameters,
  type TrainableModel,
  Trainer,
} from '@lowrank/trainer';
import { readFileRecords } from '@lowrank/trainer/node';
import { z } from 'zod';
import { bundledFolder, forward, load, type Result, runJob } from './model-job.ts';

const qualityJob = z.strictObject({
  name: z.string(),
  task: z.enum(['bundled', 'gsm8k']),
  /** For gsm8k: the model's folder, and the file of questions and answers. */
  model: z.string().optional(),
  data: z.string().optional(),
  method: z.enum(['full', 'lora', 'qlora']),
  storage: z.enum(['dense', 'nf4', 'fp4', 'int8']),
  rank: z.int().positive(),
  steps: z.int().positive(),
  /** Held-out samples that the loss is taken over, and those of them that are answered. */
  heldOut: z.int().positive(),
  questions: z.int().positive(),
  seed: z.int(),
  threads: z.int().positive().optional(),
});
export type QualityJob = z.infer<typeof qualityJob>;

interface Task {
  readonly tokenizer: Tokenizer;
  readonly train: Dataset;
  readonly held: Dataset;
  /** What of an answer must be right. */
  readonly answer: (text: string) => string;
  readonly maxNewTokens: number;
  /** Settings of the trainer that suit it. Adapters learn at `learningRate`, the weights themselves at a tenth. */
  readonly recipe: {
    readonly batchSize: number;
    readonly learningRate: number;
    readonly lrScheduler: 'linear' | 'constant';
    readonly warmupSteps: number;
    readonly groupByLength: boolean;
  };
}

/** The instruction set that travels with the bundled model; an answer must be right as it stands. */
async function bundledTask(job: QualityJob): Promise<Task> {
  const tokenizer = await loadTokenizer(await folderFiles(join(bundledFolder(), 'model')));
  const read = (file: string) =>
    encodeDataset(readFileRecords(join(bundledFolder(), 'instructions', file)), tokenizer, { contextLength: 512 });
  return {
    tokenizer,
    train: await read('train.jsonl'),
    held: (await read('heldout.jsonl')).slice(0, job.heldOut),
    answer: (text) => text.trim(),
    maxNewTokens: 64,
    recipe: {
      batchSize: 8,
      learningRate: 4e-3,
      lrScheduler: 'linear',
      warmupSteps: Math.min(12, Math.ceil(job.steps / 5)),
      groupByLength: true,
    },
  };
}

/**
 * School arithmetic, cut at 256 tokens, rows in file order, the last ones held out; the number after #### must be right. Of the other rows
 * those are read that the steps get to.
 */
async function gsm8kTask(job: QualityJob): Promise<Task> {
  const tokenizer = await loadTokenizer(await folderFiles(job.model!));
  const rows = await Array.fromAsync(readFileRecords(job.data!));
  const batchSize = 4;
  // a row whose question alone fills the length is left out
  const encode = (from: number, to?: number) =>
    encodeDataset(stream(rows.slice(from, to)), tokenizer, {
      prompt: '{question}\n',
      completion: '{answer}',
      maxLength: 256,
      onMasked: 'drop',
    });
  const held = await encode(-job.heldOut);
  return {
    tokenizer,
    train: await encode(0, Math.min(rows.length - job.heldOut, job.steps * batchSize + 32)),
    held,
    answer: (text) => /####\s*([-\d.,]+)/.exec(text)?.[1]?.replaceAll(',', '') ?? '',
    maxNewTokens: 192,
    recipe: { batchSize, learningRate: 5e-4, lrScheduler: 'constant', warmupSteps: 0, groupByLength: false },
  };
}

async function* stream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

/** Share of held-out requests that are answered right, greedily. */
async function score(model: CausalLm, { tokenizer, held, answer, maxNewTokens }: Task, count: number): Promise<number> {
  const samples = held.samples.slice(0, count);
  const asked = samples.map(({ ids, labels }) =>
    Array.from(ids).slice(
      0,
      labels.findIndex((l) => l !== ignored),
    ),
  );
  const expected = samples.map(({ ids }, i) =>
    answer(tokenizer.decode(Array.from(ids).slice(asked[i]!.length), { skipSpecialTokens: true })),
  );
  const answers = new Array<string>(samples.length).fill('');
  for (let at = 0; at < asked.length; at += 32)
    for await (const { prompt, text } of generate(model, asked.slice(at, at + 32), { tokenizer, maxNewTokens }))
      answers[at + prompt] += text;
  return answers.filter((a, i) => answer(a) === expected[i] && expected[i] !== '').length / samples.length;
}

async function measure(device: Device, job: QualityJob): Promise<Result> {
  const task = await (job.task === 'bundled' ? bundledTask(job) : gsm8kTask(job));
  const { train, held, recipe } = task;
  const full = job.method === 'full';
  device.pool.resetPeak();
  const files = await folderFiles(job.model ?? join(bundledFolder(), 'model'));
  using model = await load(device, files, job.storage, { full });
  using lora = full ? undefined : new LoraModel(model, device);
  const { rank: r } = job;
  lora?.addAdapter('default', { r, loraAlpha: 2 * r, targetModules: 'all-linear' }, { seed: job.seed });
  const trained = lora ? lora.trainableParameters() : device.withClass('weights', () => selectParameters(model));
  const trainee: TrainableModel = { ...forward(model), parameters: () => trained };
  let trainable = 0;
  for (const t of trained.values()) trainable += t.size;
  const counts = lora?.counts();
  let all = counts?.total ?? 0;
  if (!counts) for (const [, t] of model.namedParameters()) all += t.size;
  const before = await evaluate(device, trainee, held);
  device.pool.resetPeak();
  const samples: number[] = [];
  const figures: Record<string, number> = {};
  let tokens = 0;
  let last = performance.now();
  {
    using trainer = new Trainer({
      device,
      model: trainee,
      data: train,
      ...recipe,
      learningRate: recipe.learningRate * (full ? 0.1 : 1),
      shuffle: job.task === 'bundled',
      maxSteps: job.steps,
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
    const { memory, loss } = await trainer.train();
    for (const [cls, bytes] of Object.entries(memory.peakByClass)) figures[`bytes.${cls}`] = bytes;
    figures.peakBytes = memory.peak;
    figures.loss = loss;
  }
  const after = await evaluate(device, trainee, held);
  const right = await score(model, task, job.questions);
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
      heldOutLoss: after.loss,
      heldOutTokens: after.tokens,
      score: right,
      questions: Math.min(job.questions, held.length),
      outputBytes,
    },
    notes: full ? ['outputBytes: the whole model in bf16'] : [],
  };
}

await runJob((json) => qualityJob.parse(json), measure);
