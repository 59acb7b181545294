/**
 * QLoRA in a program of one's own: a base in 4 bits, an adapter, a run that resumes, the adapter as PEFT's files.
 *
 *   node --conditions=source examples/node/src/fine-tune.ts [model folder] [records.jsonl] [output folder] [steps]
 */
import { fileURLToPath } from 'node:url';
import { cpuBackend } from '@lowrank/backend-cpu';
import { LoraModel } from '@lowrank/lora';
import { saveAdapterFolder } from '@lowrank/lora/node';
import { generateText, loadModel, loadTokenizer } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { BlockwiseWeight } from '@lowrank/nf4';
import { Device } from '@lowrank/tensor';
import { encodeDataset, Trainer } from '@lowrank/trainer';
import { FolderCheckpoints, readFileRecords } from '@lowrank/trainer/node';

const bundled = fileURLToPath(new URL('../../../bundled', import.meta.url));
const [
  folder = `${bundled}/model`,
  records = `${bundled}/instructions/train.jsonl`,
  output = 'my-adapter',
  steps = '60',
] = process.argv.slice(2);

await using device = new Device(await cpuBackend());
const files = await folderFiles(folder);
const tokenizer = await loadTokenizer(files);
using model = await loadModel(device, files, { quantize: (_, values) => BlockwiseWeight.quantize(values) });

using lora = new LoraModel(model, device);
lora.addAdapter('default', { r: 8, loraAlpha: 16, targetModules: 'all-linear', baseModelNameOrPath: folder });
const { trainable, share } = lora.counts();
console.log(`training ${trainable} numbers, ${(share * 100).toFixed(2)} % of all`);

const data = await encodeDataset(readFileRecords(records), tokenizer, { contextLength: model.config.maxPositions });
const held = data.slice(-32);
using trainer = new Trainer({
  device,
  model: lora.trainable(),
  data: data.slice(0, -32),
  evalData: held,
  batchSize: 8,
  maxSteps: Number(steps),
  learningRate: 4e-3,
  warmupSteps: 0.1,
  maxGradNorm: 1,
  saveSteps: 20,
  checkpoints: new FolderCheckpoints(output),
  onLog: ({ step, totalSteps, loss, tokensPerSecond }) =>
    console.log(`step ${step}/${totalSteps}  loss ${loss.toFixed(3)}  ${tokensPerSecond.toFixed(0)} tokens/s`),
  onEvaluate: ({ loss }) => console.log(`held-out loss ${loss.toFixed(3)}`),
});
const from = await trainer.resume();
if (from !== undefined) console.log(`going on from step ${from}`);
await trainer.train();

console.log(await generateText(model, tokenizer, 'Wake me at 6 am.\n', { maxNewTokens: 48 }));
await saveAdapterFolder(lora, 'default', output, { overwrite: true });
console.log(`saved ${output}: PeftModel.from_pretrained(base, '${output}') loads it`);
