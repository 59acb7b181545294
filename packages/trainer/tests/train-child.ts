/** Run as a process of its own, to be killed: `node tests/train-child.ts <folder>` trains, resuming from what is in the folder. */
import { cpuBackend } from '@lowrank/backend-cpu';
import { Device } from '@lowrank/tensor';
import { Trainer } from '../src/index.ts';
import { FolderCheckpoints, JsonlMetrics } from '../src/node.ts';
import { attach, randomData, readTensors, tinyModel, trainable } from './support.ts';

const folder = process.argv[2]!;
const device = new Device(await cpuBackend({ threads: 1 }));
const base = await tinyModel(device);
const lora = attach(base, device, await readTensors('peft-tiny/lora/adapter/adapter_model.safetensors'), 2);
const seed = device.seed(0);
const trainer = new Trainer({
  device,
  model: trainable(base, lora.parameters, (on) => {
    for (const [site, a] of lora.adapters.entries()) a.drop = { p: on ? 0.1 : 0, seed, site };
  }),
  data: randomData(20),
  dropoutSeed: seed,
  batchSize: 4,
  maxSteps: 40,
  learningRate: 0.01,
  checkpoints: new FolderCheckpoints(folder, { keep: 2 }),
  checkpointFiles: async () => new Map([['adapter.txt', new TextEncoder().encode('an adapter')]]),
  metrics: new JsonlMetrics(`${folder}.jsonl`),
  saveSteps: 1,
  onStep: ({ step }) => void process.stdout.write(`step ${step}\n`),
});
const from = await trainer.resume();
process.stdout.write(`from ${from}\n`);
await trainer.train();
process.stdout.write('done\n');
process.exit(0);
