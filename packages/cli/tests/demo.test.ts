import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { call, fewRecords, temporary } from './cli.ts';

const folder = temporary();

test('a demo that learns too little says so and fails; it leaves adapter, report and merged model', async () => {
  const held = fewRecords(folder, 6, 'held.jsonl', 'heldout');
  const output = join(folder, 'demo');
  const done = await call('demo', '--max-steps', '3', '--eval-data', held, '--output', output, '--backend', 'cpu');
  expect(done.code, done.stderr).toBe(1);
  expect(done.stdout).toContain('before: 0.0 % of 6 held-out requests');
  expect(done.stdout).toMatch(/after: [\d.]+ % of 6/);
  expect(done.stdout).toMatch(/merged: [\d.]+ % of 6/);
  expect(done.stdout).toContain('The target was missed');
  for (const name of ['adapter_model.safetensors', 'report.html', 'merged/model.safetensors', 'merged/tokenizer.json'])
    expect(existsSync(join(output, name)), name).toBe(true);
});
