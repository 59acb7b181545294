import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readGpuLines } from '../src/gpu-lines.ts';
import { growths } from '../src/growth.ts';
import { checkFilter, matches, parseOptions } from '../src/options.ts';
import { type Measured, RecordFile, readRecords, schemaVersion } from '../src/record.ts';
import { htmlReport } from '../src/report/html.ts';
import { isSchemaFile } from '../src/report/machine-section.ts';
import { comparison, table } from '../src/report/table.ts';
import { compareSummaries, growthExponent, quantile, summarize } from '../src/statistics.ts';
import { trainCases } from '../src/suites/train.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bench-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const sample = (samples: number[], name = 'matmul', contender = 'cpu'): Measured => ({
  schema: schemaVersion,
  run: 'r',
  date: '2026-11-22T09:00:00.000Z',
  command: 'npm run bench --',
  seed: 0,
  suite: 'ops',
  case: name,
  contender: { name: contender, kind: 'backend', device: 'test', driver: null, features: [] },
  environment: {
    commit: null,
    packages: { node: '24.0.0' },
    os: 'Linux',
    cpu: 'test',
    cores: 2,
    memoryBytes: 1,
    load: 0,
    othersShare: 0,
  },
  marks: [],
  status: 'ok',
  samples,
  ...summarize(samples),
  work: { flops: 1e9 },
  figures: {},
  notes: [],
});

test('quantiles lie between neighbours', () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2);
  expect(quantile([0, 10], 0.2)).toBeCloseTo(2);
  expect(summarize([5])).toEqual({ median: 5, p20: 5, p80: 5 });
  expect(
    growthExponent([
      [1, 3],
      [2, 12],
      [4, 48],
    ]),
  ).toBeCloseTo(2);
});

test('a ratio that the spread swallows is no difference', () => {
  const [old, same, faster] = [
    [9, 10, 11],
    [9.5, 10.4, 11],
    [4, 5, 5.5],
  ].map((s) => summarize(s));
  expect(compareSummaries(old!, same!).differs).toBe(false);
  expect(compareSummaries(old!, faster!)).toMatchObject({ differs: true, ratio: 0.5 });
  expect(comparison([sample([9, 10, 11])], [sample([9.5, 10.4, 11])])).toContain('no difference');
  expect(comparison([sample([9, 10, 11])], [sample([4, 5, 5.5])])).toContain('2× faster');
  expect(comparison([sample([1], 'a')], [sample([1], 'b')])).toContain('nothing to compare');
});

test('records are read as they were written, whole lines of an interrupted run too', () => {
  const path = join(folder, 'r.jsonl');
  new RecordFile(path).append(sample([1, 2, 3]));
  appendFileSync(path, '{"schema":2,"run":"cut sh');
  new RecordFile(path).append(sample([4]));
  const { records, broken } = readRecords(path);
  expect(records.map((r) => r.status === 'ok' && r.median)).toEqual([2, 4]);
  expect(broken).toEqual([2]);
});

test('another schema version is refused with its line', () => {
  const path = join(folder, 'r.jsonl');
  writeFileSync(path, `${JSON.stringify(sample([1]))}\n${JSON.stringify({ ...sample([1]), schema: 99 })}\n`);
  expect(() => readRecords(path)).toThrow(/another schema version: .*r\.jsonl:2: version 99, this program reads 2/);
});

test('a record that does not keep to the schema is neither written nor read', () => {
  const path = join(folder, 'r.jsonl');
  const bad = { ...sample([1]), samples: [] };
  expect(() => new RecordFile(path).append(bad)).toThrow();
  writeFileSync(path, `${JSON.stringify(bad)}\n`);
  expect(() => readRecords(path)).toThrow(/does not keep to the schema: .*r\.jsonl:1: samples/);
  expect(() => readRecords(join(folder, 'none.jsonl'))).toThrow(/cannot be read/);
  writeFileSync(path, '# Notes\n');
  expect(() => new RecordFile(path)).toThrow(/something else than records: .*r\.jsonl:1/);
});

test('names that are not there are answered with the nearest', () => {
  expect(() => parseOptions(['--suite', 'opz'])).toThrow(/Did you mean ops\?/);
  expect(() => parseOptions(['--backend', 'cup'])).toThrow(/Did you mean cpu\?/);
  expect(() => parseOptions(['--bakend', 'cpu'])).toThrow(/Did you mean --backend\?/);
  expect(() => parseOptions(['--against', 'pyton'])).toThrow(/Did you mean python\?/);
  expect(() => parseOptions(['--seconds', 'soon'])).toThrow(/must be a number/);
  expect(() => checkFilter(['rope', 'matmuk'], ['ops/matmul 1×1', 'ops/rope'])).toThrow(/Nearest: ops\/matmul/);
  expect(parseOptions(['--suite', 'all']).suites).toHaveLength(4);
  expect(parseOptions(['--suite', 'ops', '--filter', 'ops/matmul 256']).command).toBe(
    "npm run bench -- --suite ops --filter 'ops/matmul 256'",
  );
});

test('filters hold text as it is, and * for anything', () => {
  expect(matches(['rope', 'nf4*M 1 '], 'ops/quantMatmul nf4 M 1 576×576')).toBe(true);
  expect(matches(['a.b'], 'ops/axb')).toBe(false);
});

test('the report is one file that nothing in a name can break', () => {
  const html = htmlReport([sample([1, 2], '</svg><b>')]);
  expect(html).not.toMatch(/<(script|link|img)/);
  expect(html.match(/<\/svg>/g)).toHaveLength(1);
  expect(html).toContain('&lt;/svg&gt;&lt;b&gt;');
});

test('the table names what was not measured, and why', () => {
  const {
    samples: _,
    cpuSamples: _c,
    median: _m,
    p20: _a,
    p80: _b,
    work: _w,
    figures: _f,
    notes: _n,
    ...shared
  } = sample([1]);
  const text = table([{ ...shared, status: 'wrong', reason: 'result 0 differs' }]);
  expect(text).toContain('WRONG RESULTS: matmul on cpu: result 0 differs');
});

test('records that stand in the repository say what they must, line by line', () => {
  const at = join(import.meta.dirname, '../records');
  const files = (readdirSync(at, { recursive: true }) as string[]).filter((f) => f.endsWith('.jsonl'));
  for (const file of files) {
    const path = join(at, file);
    if (isSchemaFile(path)) expect(readRecords(path).broken).toEqual([]);
    else expect(readGpuLines(path).count).toBeGreaterThan(0);
  }
  expect(files.length).toBeGreaterThan(0);
});

test('docs/benchmarks.md, its plots and the list of records are what the records say', () => {
  const docs = join(import.meta.dirname, '../src/docs.ts');
  execFileSync(process.execPath, ['--conditions=source', docs, '--check'], { stdio: ['ignore', 'pipe', 'pipe'] });
});

test('a line of a GPU run without commit or command is refused with its place', () => {
  const path = join(folder, 'selfcheck.jsonl');
  const line = { kind: 'kernel', name: 'copy', microseconds: 5, fastest: 4, gpu: 'G', driver: '1', at: '2026-11-22' };
  writeFileSync(path, `${JSON.stringify(line)}\n`);
  expect(() => readGpuLines(path)).toThrow(/selfcheck\.jsonl:1: commit: .*command: /);
});

test('a line that was measured on a busy host must be marked', () => {
  const path = join(folder, 'r.jsonl');
  const line = sample([1, 2, 3]);
  const busy = { ...line, environment: { ...line.environment, othersShare: 0.6 } };
  expect(() => new RecordFile(path).append(busy)).toThrow(/others took 60 % of the cores/);
  new RecordFile(path).append({ ...busy, marks: ['busy'] });
  expect(readRecords(path).records[0]?.marks).toEqual(['busy']);
  expect(table([{ ...busy, marks: ['busy'] }])).toContain('1 of these were measured while other programs');
});

test('growth is fitted over series that differ in one size alone', () => {
  const step = (length: number, rank: number, ms: number, peak: number): Measured => ({
    ...sample([ms], `qlora ${length} ${rank}`),
    suite: 'train',
    work: { tokens: length },
    figures: { peakBytes: peak },
    shape: { model: 'm', method: 'qlora', batch: 1, length, rank, layers: 3, recompute: 'none', dtype: 'f32' },
  });
  const records = [
    step(64, 16, 10, 1000),
    step(128, 16, 20, 1000),
    step(256, 16, 40, 1000),
    step(256, 4, 39, 900),
    { ...step(512, 16, 80, 1000), contender: { ...sample([1]).contender, name: 'other' } },
  ];
  const [only, ...rest] = growths(records);
  expect(rest).toEqual([]);
  expect(only).toMatchObject({ axis: 'length' });
  expect(only!.timeExponent).toBeCloseTo(1);
  expect(only!.peakExponent).toBeCloseTo(0);
  expect(table(records)).toContain('time ~ length^1.00, peak memory ~ length^');
});

test('every training step has a name of its own', () => {
  const names = trainCases.map((c) => c.name);
  expect(new Set(names).size).toBe(names.length);
});

test('a comparison of two machines says that it is one', () => {
  const old = sample([9, 10, 11]);
  const there = { ...old, environment: { ...old.environment, cpu: 'another' } };
  expect(comparison([there], [old])).toMatch(/different places: before on another.*; now on test/);
  expect(comparison([old], [old])).not.toContain('different places');
});
