import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bench } from '../src/bench.ts';
import { parseOptions } from '../src/options.ts';
import { readRecords } from '../src/record.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bench-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const backends = join(import.meta.dirname, 'backends');

async function call(args: readonly string[], signal = new AbortController().signal) {
  const out: string[] = [];
  const err: string[] = [];
  const path = join(folder, 'r.jsonl');
  const code = await bench(
    ['--out', path, ...args, '--seconds', '0.01', '--threads', '1'],
    { out: (t) => out.push(t), err: (t) => err.push(t) },
    signal,
  );
  return { code, out: out.join('\n'), err: err.join('\n'), path };
}

test('measures an op, keeps every sample, and writes table and report', async () => {
  const { code, out, path } = await call(['--suite', 'ops', '--backend', 'cpu', '--filter', 'small ops']);
  expect(code).toBe(0);
  const { records } = readRecords(path);
  const ops = records.filter((r) => r.case.startsWith('64 small ops'));
  expect(ops).toHaveLength(2);
  for (const r of ops) {
    expect(r.status).toBe('ok');
    if (r.status !== 'ok') continue;
    expect(r.samples.length).toBeGreaterThanOrEqual(5);
    expect(r.cpuSamples).toHaveLength(r.samples.length);
    expect(r.ceiling?.of).toBe('copy');
    expect(r.environment.packages['@lowrank/backend-cpu']).toMatch(/^\d/);
  }
  expect(out).toContain('64 small ops 8×64 recorded f32');
  expect(readFileSync(path.replace('.jsonl', '.html'), 'utf8')).toContain('64 small ops 8×64 recorded f32');
  const again = await call([
    '--suite',
    'ops',
    '--backend',
    'cpu',
    '--filter',
    'small ops',
    '--compare',
    path,
    '--json',
  ]);
  expect(again.code).toBe(0);
  expect(again.err).toContain('ratio of times');
  for (const line of again.out.split('\n')) expect(JSON.parse(line)).toMatchObject({ schema: 2 });
});

test('wrong results have no speed, a backend that does not load is named, the rest goes on', async () => {
  const names = ['cpu', join(backends, 'wrong.ts'), join(backends, 'broken.ts'), join(backends, 'none.ts')].join(',');
  const { code, out, path } = await call(['--suite', 'ops', '--backend', names, '--filter', 'matmul 256×1024×1024']);
  expect(code).toBe(1);
  const { records } = readRecords(path);
  const of = (name: string) => records.filter((r) => r.contender.name.endsWith(name));
  expect(of('broken.ts')[0]).toMatchObject({ status: 'failed', reason: 'the driver is missing' });
  expect(of('none.ts')[0]).toMatchObject({ status: 'failed', reason: expect.stringContaining('not there') });
  expect(
    of('wrong')
      .filter((r) => r.case.includes('matmul'))
      .map((r) => r.status),
  ).not.toContain('ok');
  expect(of('cpu').find((r) => r.case === 'matmul 256×1024×1024 f32')?.status).toBe('ok');
  expect(out).toContain('WRONG RESULTS');
});

test('an interrupted run leaves whole records and says so', async () => {
  const stop = new AbortController();
  const out: string[] = [];
  const path = join(folder, 'r.jsonl');
  const code = await bench(
    ['--suite', 'ops', '--backend', 'cpu', '--filter', 'rmsNorm', '--out', path, '--seconds', '0.01', '--threads', '1'],
    {
      out: (text) => {
        out.push(text);
        if (text.startsWith('ops 2/')) stop.abort();
      },
      err: () => {},
    },
    stop.signal,
  );
  expect(code).toBe(130);
  const { records, broken } = readRecords(path);
  expect(broken).toEqual([]);
  expect(records.some((r) => r.case.startsWith('rmsNorm'))).toBe(true);
  expect(out.join('\n')).toContain('interrupted');
});

test('bad options and record files end with their reason, before anything runs', async () => {
  expect(await call(['--suite', 'opz'])).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean ops?') });
  expect(await call(['--compare', join(folder, 'none.jsonl')])).toMatchObject({
    code: 2,
    err: expect.stringContaining('not there'),
  });
  const old = join(folder, 'old.jsonl');
  writeFileSync(old, '{"schema":1,"case":"matmul"}\n');
  for (const words of [
    ['--compare', old],
    ['--out', old],
  ])
    expect(await call(words)).toMatchObject({
      code: 2,
      err: expect.stringContaining('version 1, this program reads 2'),
    });
  expect(readFileSync(old, 'utf8')).toBe('{"schema":1,"case":"matmul"}\n');
  expect(await call(['--out', join(old, 'r.jsonl')])).toMatchObject({
    code: 2,
    err: expect.stringContaining('cannot be written'),
  });
  expect(await call(['--filter', 'matmuk'])).toMatchObject({ code: 2, err: expect.stringContaining('Nearest') });
  expect((await call(['--help'])).out).toContain('--suite');
});

test('the command of a record can be typed again', () => {
  const { command } = parseOptions(['--suite', 'ops', '--filter', 'ops/matmul 256×1024']);
  expect(command).toBe("npm run bench -- --suite ops --filter 'ops/matmul 256×1024'");
});
