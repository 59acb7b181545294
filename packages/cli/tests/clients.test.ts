import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { noGrad } from '@lowrank/tensor';
import { beforeAll, describe, expect, test } from 'vitest';
import { modelsDir, need, pythonPath, sharedPath } from '../../../scripts/testing/shared.ts';
import type { Settings } from '../src/options/schema.ts';
import { Console } from '../src/report/console.ts';
import { openSession } from '../src/run/session.ts';
import { call, fewRecords, shortRun, temporary } from './cli.ts';
import { clientLogits, farthest } from './real-clients.ts';

const folder = temporary();

describe('what the command line writes, PEFT, transformers and bitsandbytes load', () => {
  const prompts = [
    [5, 900, 31, 7, 2044],
    [11, 12, 13, 14, 15, 16, 17, 18, 400, 1000, 3000],
  ];
  const adapter = join(folder, 'adapter');
  const quantized = join(folder, 'quantized');
  const merged = join(folder, 'merged');

  beforeAll(async () => {
    const data = fewRecords(folder, 16);
    const options = [
      '--method',
      'qlora',
      '--target-modules',
      'all-linear',
      '--max-steps',
      '6',
      '--learning-rate',
      '4e-3',
    ];
    const config = ['--backend', 'cpu'];
    for (const args of [
      shortRun(data, adapter, ...options),
      ['quantize', '--model', 'bundled', '--output', quantized, '--dtype', 'f32', ...config],
      ['merge', '--adapter', adapter, '--output', merged, '--dtype', 'f32', ...config],
    ]) {
      const done = await call(...args);
      expect(done.code, done.stderr).toBe(0);
    }
  });

  /** Logits of each prompt's last token, by this code. */
  async function ours(settings: Settings): Promise<Float32Array[]> {
    await using session = await openSession({ backend: 'cpu', ...settings }, new Console({ json: true }));
    const { model, device } = session;
    const out: Float32Array[] = [];
    for (const ids of prompts) {
      using logits = noGrad(() => model.forward(device.tensor([ids], { dtype: 'i32' })));
      const all = (await logits.toArray()) as Float32Array;
      out.push(all.slice(-logits.shape[2]!));
    }
    return out;
  }

  test('the quantized checkpoint, the adapter on it, the merged model: logits within 1e-3', async (context) => {
    const cases = [{ model: quantized }, { model: quantized, adapter }, { model: merged }];
    const interpreter = need(context, pythonPath());
    const theirs = await clientLogits(
      interpreter,
      prompts.map((ids) => ({ ids })),
      cases,
    );
    for (const [i, { model, adapter }] of cases.entries()) {
      const own = await ours({ model, ...(adapter ? { adapter: [adapter] } : {}) });
      expect(farthest(own, theirs[i]!), JSON.stringify(cases[i])).toBeLessThan(1e-3);
    }
  });
});

test('SmolLM2 in 4 bits on GSM8K: a step takes the memory that plan foresaw, and the adapter is used', async (context) => {
  const model = join(need(context, modelsDir()), 'SmolLM2-135M-Instruct-bnb-4bit');
  const gsm8k = need(context, sharedPath('data/gsm8k/train.jsonl'));
  const rows = join(folder, 'rows.jsonl');
  writeFileSync(rows, `${readFileSync(gsm8k, 'utf8').split('\n').slice(0, 2).join('\n')}\n`);
  const data = ['--data', rows, '--prompt', '{question}\\n', '--completion', '{answer}', '--max-length', '128'];
  const loop = ['--max-steps', '2', '--batch-size', '1', '--no-shuffle', '--r', '16', '--backend', 'cpu', '--json'];
  const output = join(folder, 'smollm2');
  const options = ['--learning-rate', '5e-4', '--lr-scheduler', 'constant', '--samples', '0'];
  const done = await call('train', '--model', model, '--output', output, ...data, ...loop, ...options);
  expect(done.code, done.stderr).toBe(0);
  const lines = done.lines();
  const plan = await call('plan', model, ...data, ...loop);
  expect(plan.code, plan.stderr).toBe(0);
  const [{ plans }] = plan.lines() as unknown as [
    { plans: { method: string; peakBytes: number; trainable: number }[] },
  ];
  // all linear layers at rank 16: what PEFT counts
  expect(plans).toMatchObject([{ method: 'qlora', trainable: 4_884_480 }]);
  expect(Math.abs(plans[0]!.peakBytes / (lines.at(-1)!.peakMemoryBytes as number) - 1)).toBeLessThan(0.05);
  const evaluated = await call('eval', '--adapter', output, ...data, '--backend', 'cpu', '--json');
  expect(evaluated.code, evaluated.stderr).toBe(0);
  const steps = lines.filter((l) => l.event === 'step') as unknown as { loss: number; tokens: number }[];
  const before = steps.reduce((sum, s) => sum + s.loss * s.tokens, 0) / steps.reduce((sum, s) => sum + s.tokens, 0);
  expect(evaluated.lines()[0]!.loss).toBeLessThan(before);
});
