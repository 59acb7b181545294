import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Runner } from '../src/jobs/runner.ts';

const script = join(import.meta.dirname, '../src/jobs/step-job.ts');
const job = {
  shape: 'smollm2-135m',
  layers: 1,
  method: 'qlora',
  batch: 1,
  length: 16,
  rank: 4,
  recompute: 'none',
  record: 'auto',
  dtype: 'f32',
  seed: 0,
  threads: 1,
};
const start = (rest: object = {}, backend = 'cpu') =>
  new Runner(backend, process.execPath, ['--conditions=source', script, backend, JSON.stringify({ ...job, ...rest })]);

test('a step runner does a step when asked, and tells of memory and ops at the end', async () => {
  await using runner = start();
  expect((await runner.expect('ready')).device).toContain('WebAssembly');
  for (let i = 0; i < 2; i++) {
    runner.ask();
    expect((await runner.expect('step')).milliseconds).toBeGreaterThan(0);
  }
  runner.finish();
  const { figures } = await runner.expect('done');
  expect(figures.trainable).toBe(4 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536)));
  // what the null backend forecasts is what was taken
  expect(figures.forecastBytes).toBe(figures.peakBytes);
  // q k v, o, gate and up, down, and the head
  expect(figures['op.loraLinear.calls']).toBe(5);
  expect(figures['bytes.weights']).toBeGreaterThan(0);
});

test('a runner that fails says why', async () => {
  await using unknown = start({}, 'cup.ts');
  await expect(unknown.next()).rejects.toThrow(/not there/);
  await using gone = new Runner('gone', process.execPath, ['-e', 'process.exit(3)']);
  await expect(gone.next()).rejects.toThrow(/gone: exit code 3/);
});
