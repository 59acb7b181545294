/** Loads a model again and again, makes a first step, and saves adapter and model: load-job.ts BACKEND JSON. */
import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { folderSinks } from '@lowrank/formats/node';
import { LoraModel, saveAdapter } from '@lowrank/lora';
import { saveModel } from '@lowrank/merge';
import { type CausalLm, loadConfig } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { type BlockwiseWeight, toBnbTensors } from '@lowrank/nf4';
import type { Device } from '@lowrank/tensor';
import { Dataset, Trainer } from '@lowrank/trainer';
import { z } from 'zod';
import { bundledFolder, forward, load, type Result, runJob } from './model-job.ts';

const loadJob = z.strictObject({
  name: z.string(),
  /** A folder in the Hugging Face layout or a GGUF file; the bundled model where absent. */
  path: z.string().optional(),
  /** Of the file. The bundled model is saved as bitsandbytes does first, where that is asked. */
  form: z.enum(['safetensors', 'bitsandbytes', 'gguf']),
  /** On the device. */
  storage: z.enum(['dense', 'nf4', 'fp4', 'int8']),
  repeats: z.int().positive(),
  threads: z.int().positive().optional(),
});
export type LoadJob = z.infer<typeof loadJob>;

/** Weights as they lie in memory; dense ones in bf16. */
async function save(model: CausalLm, folder: string, config: Readonly<Record<string, unknown>>): Promise<number> {
  const names = await saveModel(model, folderSinks(folder), {
    config,
    quantized: (name, w) => toBnbTensors(name, w as BlockwiseWeight, 'bf16'),
  });
  return names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

const rss = () => process.memoryUsage.rss();

/** Bytes of the weights' files. */
function fileSize(path: string): number {
  if (statSync(path).isFile()) return statSync(path).size;
  return readdirSync(path)
    .filter((f) => f.endsWith('.safetensors'))
    .reduce((sum, f) => sum + statSync(join(path, f)).size, 0);
}

/** Milliseconds until one training step on 64 tokens is done, on a model that was just loaded. */
async function firstStep(device: Device, model: CausalLm, lora: LoraModel, vocabulary: number): Promise<number> {
  const ids = Int32Array.from({ length: 64 }, (_, i) => (i * 37) % vocabulary);
  const data = new Dataset([{ ids, labels: ids, where: 'counted' }], { padTokenId: 0 });
  const start = performance.now();
  using trainer = new Trainer({
    device,
    model: { ...forward(model), parameters: () => lora.trainableParameters() },
    data,
    batchSize: 1,
    maxSteps: 1,
  });
  await trainer.train();
  return performance.now() - start;
}

async function measure(device: Device, job: LoadJob): Promise<Result> {
  const out = mkdtempSync(join(tmpdir(), 'lowrank-bench-'));
  try {
    let path = job.path ?? join(bundledFolder(), 'model');
    const { json } = await loadConfig(await folderFiles(path));
    if (job.form === 'bitsandbytes' && job.path === undefined) {
      using model = await load(device, await folderFiles(path), 'nf4');
      const made = join(out, 'bitsandbytes');
      await save(model, made, json);
      for (const f of ['tokenizer.json', 'tokenizer_config.json']) copyFileSync(join(path, f), join(made, f));
      path = made;
    }
    device.pool.trim();
    device.pool.resetPeak();
    const files = await folderFiles(path);
    const samples: number[] = [];
    let weights = 0;
    const before = rss();
    let top = before;
    const onTensor = () => {
      top = Math.max(top, rss());
    };
    for (let i = 0; i < job.repeats; i++) {
      const start = performance.now();
      using model = await load(device, files, job.storage, { onTensor });
      await device.synchronize();
      samples.push(performance.now() - start);
      weights = device.memory().liveByClass.weights;
      onTensor();
      void model;
    }
    // a device that is this process holds its weights in the same memory
    const inHost = device.backend.caps.asynchronous ? 0 : device.memory().peakReserved;
    using model = await load(device, files, job.storage);
    using lora = new LoraModel(model, device);
    lora.addAdapter('default', { r: 16, loraAlpha: 32, targetModules: 'all-linear' });
    const firstStepMilliseconds = await firstStep(device, model, lora, model.config.vocabSize);
    const saving = performance.now();
    let adapterBytes = 0;
    for (const bytes of (await saveAdapter(lora, 'default')).values()) adapterBytes += bytes.byteLength;
    const adapterSaveMilliseconds = performance.now() - saving;
    lora.dispose();
    const storing = performance.now();
    // int8 has no file of bitsandbytes: it goes out dense
    const modelBytes = job.storage === 'int8' ? undefined : await save(model, join(out, 'saved'), json);
    const fileBytes = fileSize(path);
    return {
      samples,
      work: { bytes: fileBytes },
      figures: {
        fileBytes,
        weightBytes: weights,
        hostPeakBytes: Math.max(0, top - before),
        hostBesideWeightsBytes: Math.max(0, top - before - inHost),
        firstStepMilliseconds,
        adapterSaveMilliseconds,
        adapterBytes,
        ...(modelBytes === undefined ? {} : { modelSaveMilliseconds: performance.now() - storing, modelBytes }),
      },
      notes: [
        'hostPeakBytes: growth of the process while loading; hostBesideWeightsBytes: without the memory that is the device',
      ],
    };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

await runJob((json) => loadJob.parse(json), measure);
