import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cpuBackend } from '@lowrank/backend-cpu';
import { LoraModel } from '@lowrank/lora';
import { loadModel, loadTokenizer } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { type Backend, Device } from '@lowrank/tensor';
import { encodeDataset, Trainer } from '@lowrank/trainer';
import { readFileRecords } from '@lowrank/trainer/node';
import { expect, test } from 'vitest';
import customBackend from '../src/index.ts';

const root = join(import.meta.dirname, '../../..');
const bundled = join(root, 'bundled');

/** Losses of a short LoRA run on the bundled model. */
async function losses(backend: Backend): Promise<number[]> {
  await using device = new Device(backend);
  const out: number[] = [];
  {
    const files = await folderFiles(join(bundled, 'model'));
    using model = await loadModel(device, files, { computeDtype: 'f32', weightDtype: 'f32' });
    using lora = new LoraModel(model, device);
    lora.addAdapter('default', { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] }, { seed: 0 });
    const records = readFileRecords(join(bundled, 'instructions/train.jsonl'));
    const data = (await encodeDataset(records, await loadTokenizer(files))).slice(0, 1);
    using trainer = new Trainer({
      device,
      model: {
        parameters: () => lora.trainableParameters(),
        hidden: (ids, input) => model.hidden(ids, input),
        head: (rows) => model.head(rows),
        prepare: (length) => model.prepare(length),
      },
      data,
      batchSize: 1,
      maxSteps: 3,
      learningRate: 1e-2,
      lrScheduler: 'constant',
      onLog: ({ loss }) => void out.push(loss),
    });
    await trainer.train();
  }
  expect(device.memory().live).toBe(0);
  return out;
}

test('fine-tunes the bundled model, with the losses of the CPU backend', async () => {
  const mine = await losses(await customBackend());
  const theirs = await losses(await cpuBackend({ threads: 1 }));
  expect(mine).toHaveLength(3);
  expect(mine[2]!).toBeLessThan(mine[0]!);
  for (const [i, loss] of mine.entries()) expect(Math.abs(loss - theirs[i]!)).toBeLessThan(1e-3 * theirs[i]!);
});

test("stands in the benchmark's table, checked against the reference", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'custom-backend-'));
  try {
    const script = [join(root, 'benchmarks/src/main.ts'), '--suite', 'ops', '--filter', 'rmsNorm 256×576 forward f32'];
    const options = ['--backend', './src/index.ts', '--seconds', '0.01', '--json', '--out', join(folder, 'r.jsonl')];
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ['--conditions=source', ...script, ...options],
      { cwd: join(import.meta.dirname, '..') },
    );
    const records = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { case: string; status: string; contender: { name: string; device: string } });
    expect(records.at(-1)).toMatchObject({
      case: 'rmsNorm 256×576 forward f32',
      status: 'ok',
      contender: { name: 'custom', device: 'plain TypeScript' },
    });
    expect(stderr).toMatch(/rmsNorm 256×576 forward f32 +custom/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
