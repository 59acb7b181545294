import { expect, test } from 'vitest';
import type { KernelLine, QuotedLine, StepLine } from '../src/gpu-lines.ts';
import { type Measured, schemaVersion } from '../src/record.ts';
import {
  kernelLosses,
  kernelTable,
  newestKernels,
  webGpuKernels,
  webGpuLosses,
  webGpuTable,
} from '../src/report/kernels.ts';
import { machineSection } from '../src/report/machine-section.ts';
import { besideQuoted } from '../src/report/quoted.ts';
import { withTable } from '../src/report/readme.ts';
import { newestSteps, stepTable, suiteName } from '../src/report/steps.ts';
import { summarize } from '../src/statistics.ts';

const stamp = { commit: '0123456789ab', gpu: 'GPU', driver: '1', command: 'run.sh selfcheck' };

const kernel = (name: string, microseconds: number, at: string, rest: Partial<KernelLine> = {}): KernelLine => ({
  ...stamp,
  kind: 'kernel',
  name,
  microseconds,
  fastest: microseconds,
  at,
  ...rest,
});

const line = (name: string, milliseconds: number, at: string): StepLine => ({
  ...stamp,
  at,
  case: name,
  backend: 'cuda',
  dtype: 'bf16',
  medianMs: milliseconds,
  milliseconds: [milliseconds],
  tokensPerSecond: 2048e3 / milliseconds,
  peakGiB: 7,
  loss: 12,
});

function step(name: string, ms: number, rest: Partial<Measured> = {}): Measured {
  return {
    schema: schemaVersion,
    run: 'r',
    date: '2026-11-29T09:00:00.000Z',
    command: 'npm run bench -- --suite train --out x.jsonl',
    seed: 0,
    suite: 'train',
    case: name,
    contender: { name: 'cuda', kind: 'backend', device: 'GPU', driver: '1', features: [] },
    environment: {
      commit: '0123456789ab',
      packages: { node: '24.0.0' },
      os: 'Linux',
      cpu: 'CPU',
      cores: 16,
      memoryBytes: 1,
      load: 0,
      othersShare: 0,
    },
    marks: [],
    status: 'ok',
    samples: [ms],
    ...summarize([ms]),
    work: { tokens: 2048 },
    figures: { peakBytes: 6 * 2 ** 30, forecastBytes: 6.6 * 2 ** 30 },
    notes: [],
    ...rest,
  };
}

test('of a kernel the newest run counts, its fastest variant, and the run before is told', () => {
  const found = newestKernels([
    kernel('attention bf16', 700, '2026-11-22', { goal: 137 }),
    kernel('attention bf16', 720, '2026-11-23', { goal: 137 }),
    kernel('attention bf16, wgmma', 300, '2026-11-23', { goal: 137 }),
    kernel('gemm candidate 3', 1, '2026-11-23'),
    kernel('8B 8×8, choice 2, workspace 0', 1, '2026-11-23'),
    kernel('dequantize4_bf16 8×8', 1, '2026-11-23'),
    kernel('attention wgmma, compared', 0, '2026-11-23'),
  ]);
  expect(found).toHaveLength(1);
  expect(found[0]).toMatchObject({ name: 'attention bf16', now: { microseconds: 300 }, before: { microseconds: 700 } });
  expect(kernelTable(found)).toContain('| attention bf16 | 300 µs |');
  expect(kernelLosses(found)).toEqual(['- Kernel attention bf16: 300 µs, the goal is 137 µs.']);
});

test('kernels through WebGPU stand by themselves, beside other libraries and their goals', () => {
  const timer = { timer: 'timestamps' };
  const lines = [
    kernel('matmul f16 NN', 5000, '2026-11-28', { ...timer, commit: 'ba9876543210' }),
    kernel('matmul f16 NN', 700, '2026-11-29', { ...timer, goal: 687 }),
    kernel('jax-js matmul f16 NN', 600, '2026-11-29', { timer: 'clock', library: '@jax-js/jax' }),
    kernel('host time a dispatch, eager', 10, '2026-11-29', timer),
    kernel('host time a dispatch, replayed', 4, '2026-11-29', timer),
  ];
  expect(newestKernels(lines)).toEqual([]);
  const found = webGpuKernels(lines);
  expect(found.map((k) => k.name)).toEqual([
    'matmul f16 NN',
    'host time a dispatch, eager',
    'host time a dispatch, replayed',
  ]);
  expect(webGpuTable(found)).toMatch(/\| matmul f16 NN \| 700 µs \|.*\| 687 µs \| jax-js 600 µs \|.*\| 5 ms \|/);
  expect(webGpuLosses(found)).toEqual([
    '- WebGPU, matmul f16 NN: 700 µs, the goal is 687 µs.',
    '- WebGPU, matmul f16 NN: 700 µs, jax-js takes 600 µs.',
  ]);
});

test('steps of both kinds of records are one case, the newest first', () => {
  expect(suiteName('smol-qlora-8x512-selective')).toBe('qlora smollm2-135m 8×512 r 16 recompute selective');
  expect(suiteName('1b-qlora-1x512')).toBe('qlora llama-3.2-1b 1×512 r 16 recompute block');
  const name = suiteName('8b-qlora-1-offload');
  const steps = newestSteps([step(name, 180)], [line('8b-qlora-1-offload', 200, '2026-11-22')]);
  expect(steps).toHaveLength(1);
  expect(stepTable(steps)).toMatch(/offload .* 180 ms .* 6 GiB \| 1\.100 \| 200 ms \(2026-11-22\) \|/);
});

test('quoted figures stand beside the newest of ours, and tell where we lose', () => {
  const quoted: QuotedLine = {
    kind: 'quoted',
    at: '2026-11-22',
    gpu: 'GPU',
    source: 'by hand',
    client: 'Other',
    method: 'qlora',
    model: 'llama-3.1-8b',
    batch: 1,
    length: 2048,
    checkpointing: true,
    tokensPerSecond: [9000, 12_000],
    peakGiB: 6.5,
  };
  const steps = newestSteps(
    [],
    [line('8b-qlora-1-block', 200, '2026-11-22'), line('8b-qlora-1-none', 100, '2026-11-22')],
  );
  const { text, losses } = besideQuoted([quoted], steps);
  expect(text).toContain('by hand (2026-11-22)');
  expect(text).toContain('| qlora llama-3.1-8b 1×2048, checkpointing | 10,240 · 7 | 9,000–12,000 · 6.5 |');
  expect(losses).toHaveLength(2);
});

test('the table of the README is made of the newest records, with links, and stands where it is marked', () => {
  const on = (name: string, kind: 'backend' | 'peer', features: string[]) =>
    ({ name, kind, device: 'WebAssembly', driver: null, features }) as const;
  const [cpu, peft] = [on('cpu', 'backend', ['threads=2']), on('peft', 'peer', [])];
  const figures = { peakResidentBytes: 2 ** 30 };
  const name = 'qlora smollm2-135m 1×256 r 16 recompute none';
  const records = [step(name, 1000, { contender: cpu, figures }), step(name, 2000, { contender: peft, figures })];
  const sources = [{ path: 'records/x.jsonl', records, lines: undefined }];
  const marks = ['<!-- generated by benchmarks/src/docs.ts -->', '<!-- end of what is generated -->'];
  const readme = withTable(`# Top\n${marks.join('\nold\n')}\nrest\n`, sources);
  expect(readme).toMatch(
    /2 CPU cores.* 2,048 tokens\/s, 1 GiB resident; peft .*same run: 1,024 tokens\/s.*\(records\/x\.jsonl\)/,
  );
  expect(readme).not.toContain('old');
  expect(readme.startsWith('# Top\n')).toBe(true);
  expect(readme.endsWith(`${marks[1]}\nrest\n`)).toBe(true);
  expect(() => withTable('# Top', sources)).toThrow(/README\.md: the table stands between/);
});

test('a machine is one section: busy lines have no times unless a GPU’s host had cores left, what was measured at last is not missed', () => {
  const besides = (othersShare: number) => ({
    marks: ['busy'] as Measured['marks'],
    environment: { ...step('c', 1).environment, cores: 16, othersShare },
  });
  const { samples: _, median: _m, p20: _a, p80: _b, work: _w, figures: _f, notes: _n, ...shared } = step('a', 1);
  const { text, title, plots } = machineSection({
    name: 'gpu',
    lines: [],
    records: [
      { ...shared, status: 'failed', reason: 'out of memory' },
      { ...shared, case: 'b', status: 'failed', reason: 'out of luck' },
      step('a', 10),
      step('c', 20, { ...besides(0.95) }),
      step('d', 30, { ...besides(0.8) }),
    ],
  });
  expect(title).toBe('GPU');
  expect(text).toContain('| a | cuda (GPU) | 10 ms |');
  expect(text).not.toMatch(/\| c \|/);
  expect(text).toContain('| d | cuda (GPU) | 30 ms |');
  expect(text).toContain('1 lines were measured while other programs');
  expect(text).toContain('1 lines are of a GPU whose host had other programs on some of its cores');
  expect(text).toContain('train/b, cuda: FAILED: out of luck');
  expect(text).not.toContain('out of memory');
  expect(text).toContain('npm run bench -- --suite train\n');
  expect([...plots.keys()]).toContain('gpu-train-a.svg');
});
