import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import type { Probe } from '../src/run/backend.ts';
import { call, fewRecords, run, shortRun, temporary } from './cli.ts';

const folder = temporary();
const data = fewRecords(folder, 48);
const held = fewRecords(folder, 12, 'held.jsonl', 'heldout');
const adapter = join(folder, 'adapter');
const steps = 16;
let trained: Awaited<ReturnType<typeof run>>;

/** What the memory of a run depends on. */
const shape = [
  '--max-steps',
  String(steps),
  '--batch-size',
  '4',
  '--target-modules',
  'all-linear',
  '--eval-data',
  held,
];
const options = [
  ...shape,
  '--method',
  'qlora',
  '--learning-rate',
  '4e-3',
  '--lr-scheduler',
  'constant',
  '--eval-steps',
  '8',
  '--samples',
  '1',
];

beforeAll(async () => {
  trained = await run(...shortRun(data, adapter, ...options, '--json'));
});

const evaluate = async (...args: string[]) => {
  const done = await call('eval', '--data', held, '--json', ...args);
  expect(done.code, done.stderr).toBe(0);
  return done.lines()[0] as { loss: number; tokens: number };
};

test('train --json writes a line a step, evaluations, and the outcome', () => {
  expect(trained.code, trained.stderr).toBe(0);
  const lines = trained.lines();
  const losses = lines.filter((l) => l.event === 'step');
  expect(losses.map((l) => l.step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  for (const l of losses)
    for (const key of ['loss', 'learningRate', 'gradNorm', 'tokensPerSecond', 'memoryBytes'])
      expect(l[key]).toBeTypeOf('number');
  expect(lines.filter((l) => l.event === 'evaluation').map((l) => l.step)).toEqual([8, 16]);
  const end = lines.at(-1)!;
  expect(end).toMatchObject({ event: 'end', stopped: 'finished', step: steps, output: adapter });
  expect(end.loss as number).toBeLessThan(0.6 * (losses[0]!.loss as number));
});

test('the folder holds a PEFT adapter, its metrics, its report and its settings', async () => {
  const config = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8'));
  expect(config).toMatchObject({
    peft_type: 'LORA',
    r: 4,
    lora_alpha: 8,
    target_modules: 'all-linear',
    task_type: 'CAUSAL_LM',
  });
  expect(existsSync(join(adapter, 'adapter_model.safetensors'))).toBe(true);
  expect(readFileSync(join(adapter, 'metrics.jsonl'), 'utf8').trim().split('\n')).toHaveLength(steps + 2);
  const html = readFileSync(join(adapter, 'report.html'), 'utf8');
  expect(html).toContain('uPlot');
  expect(html).toContain('before');
  expect(JSON.parse(readFileSync(join(adapter, 'lowrank.json'), 'utf8'))).toMatchObject({
    model: 'bundled',
    method: 'qlora',
    r: 4,
  });
  // every checkpoint is an adapter of its own
  expect(existsSync(join(adapter, `checkpoint-${steps}/adapter_config.json`))).toBe(true);
});

test('eval gives the loss that training ended with, on the base that the adapter was trained on', async () => {
  const last = trained
    .lines()
    .filter((l) => l.event === 'evaluation')
    .at(-1)! as { loss: number; tokens: number };
  const after = await evaluate('--adapter', adapter);
  expect(after.tokens).toBe(last.tokens);
  expect(after.loss).toBeCloseTo(last.loss, 5);
  const base = await evaluate('--model', 'bundled');
  expect(after.loss).toBeLessThan(base.loss - 1);
  // a checkpoint is an adapter of the same run
  expect(await evaluate('--adapter', join(adapter, `checkpoint-${steps}`))).toMatchObject({ loss: after.loss });
});

test('merged into dense weights the model is the same; into NF4 the report says what was lost', async () => {
  const dense = join(folder, 'dense');
  const merged = await call('merge', '--adapter', adapter, '--output', dense, '--dtype', 'f32', '--json');
  expect(merged.code, merged.stderr).toBe(0);
  const adapted = await evaluate('--adapter', adapter);
  expect((await evaluate('--model', dense)).loss).toBeCloseTo(adapted.loss, 4);
  const nf4 = await call('merge', '--adapter', adapter, '--output', join(folder, 'nf4'), '--format', 'nf4', '--json');
  expect(nf4.code, nf4.stderr).toBe(0);
  const [report] = nf4.lines() as unknown as [{ meanErrorOverUpdate: number; weights: unknown[] }];
  expect(report.weights).toHaveLength(42);
  expect(report.meanErrorOverUpdate).toBeGreaterThan(0.05);
  expect((await evaluate('--model', join(folder, 'nf4'))).loss).toBeGreaterThan(adapted.loss);
});

test('a quantized checkpoint is the base that QLoRA trains on', async () => {
  const quantized = join(folder, 'quantized');
  const done = await call('quantize', '--model', 'bundled', '--output', quantized);
  expect(done.code, done.stderr).toBe(0);
  expect(JSON.parse(readFileSync(join(quantized, 'config.json'), 'utf8')).quantization_config.quant_method).toBe(
    'bitsandbytes',
  );
  const adapted = await evaluate('--adapter', adapter);
  expect((await evaluate('--model', quantized, '--adapter', adapter)).loss).toBeCloseTo(adapted.loss, 5);
});

test('generate writes the text alone; one seed gives one text', async () => {
  const prompt = ['--adapter', adapter, 'Please count down 58 minutes.\\n', '--max-new-tokens', '6'];
  const plain = await call('generate', ...prompt);
  expect(plain.code, plain.stderr).toBe(0);
  const json = (await call('generate', ...prompt, '--json')).lines()[0]!;
  expect(plain.stdout).toBe(`${json.text}\n`);
  expect(json.tokens).toBeLessThanOrEqual(6);
  const sampled = () => call('generate', ...prompt, '--temperature', '1', '--seed', '7');
  const [a, b] = [await sampled(), await sampled()];
  expect(a.stdout).toBe(b.stdout);
});

test('plan foresees what the run took at most, within 5 %', async () => {
  const done = await call(
    'plan',
    'bundled',
    '--backend',
    'cpu',
    '--threads',
    '1',
    '--data',
    data,
    '--r',
    '4',
    ...shape,
    '--json',
  );
  expect(done.code, done.stderr).toBe(0);
  const [{ plans }] = done.lines() as unknown as [
    { plans: { method: string; peakBytes: number; trainable: number; fits: boolean }[] },
  ];
  expect(plans.map((p) => p.method)).toEqual(['full', 'lora', 'qlora']);
  const measured = trained.lines().at(-1)!.peakMemoryBytes as number;
  const foreseen = plans.find((p) => p.method === 'qlora')!;
  expect(Math.abs(foreseen.peakBytes / measured - 1)).toBeLessThan(0.05);
  expect(foreseen.peakBytes).toBeLessThan(plans[0]!.peakBytes);
});

test('plan takes a configuration alone, of a model far larger than this machine', async () => {
  const config = join(folder, 'config.json');
  writeFileSync(
    config,
    JSON.stringify({
      model_type: 'llama',
      vocab_size: 32000,
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      torch_dtype: 'float16',
      tie_word_embeddings: false,
    }),
  );
  const done = await call(
    'plan',
    config,
    '--batch-size',
    '1',
    '--max-length',
    '512',
    '--memory',
    '16GiB',
    '--backend',
    'cpu',
    '--json',
  );
  expect(done.code, done.stderr).toBe(0);
  const [{ plans }] = done.lines() as unknown as [
    { plans: { total: number; fits: boolean; peakByClass: { weights: number; optimizer: number } }[] },
  ];
  expect(plans[0]!.total).toBe(6_738_415_616);
  // full training in f32 holds weights and two moments; NF4 takes 4.127 bits a number
  expect(plans[0]!.peakByClass.weights).toBeCloseTo(4 * 6_738_415_616, -8);
  expect(plans[0]!.peakByClass.optimizer).toBeCloseTo(8 * 6_738_415_616, -8);
  expect(plans[2]!.peakByClass.weights).toBeLessThan(4.2e9);
  expect(plans.map((p) => p.fits)).toEqual([false, false, true]);
});

test('a backend of one’s own runs a whole training', async () => {
  const module = fileURLToPath(new URL('./own-backend.ts', import.meta.url));
  const done = await call(...shortRun(data, join(folder, 'own'), '--backend', module, '--json'));
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toMatch(/own-cpu: /);
  expect(done.stderr).toMatch(/kernels ran: [1-9]/);
});

test('info shows what the backends of this machine are, can and take', async () => {
  const done = await call('info', '--json');
  const { backends } = done.lines()[0] as { backends: Probe[] };
  expect(backends.map((b) => b.name)).toEqual(['cuda', 'webgpu', 'cpu']);
  const cpu = backends[2]!;
  expect(cpu).toMatchObject({ available: true, facts: expect.stringMatching(/^WebAssembly/), refused: [] });
  expect(cpu.features).toContain('simd');
  expect(cpu.limits.memoryBytes).toBeGreaterThan(0);
  const { stdout } = await call('info');
  for (const b of backends) {
    expect(stdout).toContain(`${b.name.padEnd(14)}${b.available ? '' : 'not here: '}${b.facts}`);
    for (const limit of Object.keys(b.limits)) expect(stdout).toContain(limit);
  }
  if (process.env.REQUIRE_WEBGPU !== '1') return;
  const webgpu = backends[1]!;
  expect(webgpu).toMatchObject({ available: true, features: expect.arrayContaining(['subgroups']) });
  expect(webgpu.limits.maxStorageBufferBindingSize).toBeGreaterThan(0);
});

test('info says what lies at a path', async () => {
  const done = await call('info', adapter, '--json');
  expect(done.lines()[0]).toMatchObject({ r: 4, loraAlpha: 8, method: 'qlora' });
  const model = await call('info', 'bundled', '--json');
  expect(model.lines()[0]).toMatchObject({ family: 'llama', layers: 6, weights: 'bf16' });
});

test('full fine-tuning writes a model that loads', async () => {
  const out = join(folder, 'full');
  const done = await call(
    'train',
    '--model',
    'bundled',
    '--method',
    'full',
    '--data',
    data,
    '--output',
    out,
    '--max-steps',
    '2',
    '--batch-size',
    '2',
    '--samples',
    '0',
    '--backend',
    'cpu',
    '--trainable',
    'layers\\.5\\.',
  );
  expect(done.code, done.stderr).toBe(0);
  expect(done.stdout).toContain('a whole model');
  await evaluate('--model', out);
});
