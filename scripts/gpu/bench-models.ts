/**
 * Makes the checkpoints of the suites load and quality from what travels: bench-models.mjs FOLDER. FOLDER holds SmolLM2-135M-Instruct.Q4_1.gguf
 * and the small files of its Hugging Face form (hf/config.json, tokenizer and template); the weights come out of the GGUF, in bf16 and in
 * bitsandbytes' NF4, as ../shared/models/get --hf makes them.
 */
import { cpSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cpuBackend } from '../../packages/backend-cpu/src/index.ts';
import { folderSinks } from '../../packages/formats/src/node.ts';
import { saveModel } from '../../packages/merge/src/index.ts';
import { loadConfig, loadModel } from '../../packages/models/src/index.ts';
import { folderFiles } from '../../packages/models/src/node.ts';
import { BlockwiseWeight, toBnbTensors } from '../../packages/nf4/src/index.ts';
import { Device } from '../../packages/tensor/src/index.ts';

const folder = process.argv[2]!;
const small = join(folder, 'hf');
const { json } = await loadConfig(await folderFiles(small));

async function make(name: string, from: string, quantize: boolean): Promise<void> {
  const to = join(folder, name);
  if (existsSync(join(to, 'config.json'))) return;
  await using device = new Device(await cpuBackend());
  using model = await loadModel(device, await folderFiles(join(folder, from)), {
    ...(quantize ? { quantize: (_, values) => BlockwiseWeight.quantize(values) } : {}),
  });
  await saveModel(model, folderSinks(to), {
    config: json,
    quantized: (tensor, w) => toBnbTensors(tensor, w as BlockwiseWeight, 'bf16'),
  });
  for (const file of readdirSync(small).filter((f) => f !== 'config.json')) cpSync(join(small, file), join(to, file));
}

await make('SmolLM2-135M-Instruct', 'SmolLM2-135M-Instruct.Q4_1.gguf', false);
await make('SmolLM2-135M-Instruct-bnb-4bit', 'SmolLM2-135M-Instruct', true);
process.exit(0);
