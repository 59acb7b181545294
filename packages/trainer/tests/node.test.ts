import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bytesSource, openSafetensors } from '@lowrank/formats';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Checkpoint, SavedTensor, SourceRecord } from '../src/index.ts';
import { FolderCheckpoints, JsonlMetrics, readFileRecords } from '../src/node.ts';
import { readParquet } from '../src/parquet.ts';
import { freshState } from '../src/state.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lowrank-trainer-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const numbers = (...values: number[]): SavedTensor => ({
  dtype: 'f32',
  shape: [values.length],
  read: async () => new Uint8Array(Float32Array.from(values).buffer),
});

function checkpoint(
  step: number,
  best?: { step: number; loss: number },
  tensors: Record<string, SavedTensor> = {},
): Checkpoint {
  const state = { ...freshState({ seed: 1 }), step, best };
  return { state, tensors: new Map(Object.entries({ 'parameters.ä': numbers(step, 2, 3), ...tensors })) };
}

const list = () => readdirSync(folder).sort();

describe('checkpoints in folders', () => {
  test('come back as they were, and other readers open their tensors', async () => {
    const store = new FolderCheckpoints(folder);
    expect(await store.load()).toBeUndefined();
    const files = new Map([['adapter_config.json', new TextEncoder().encode('{}')]]);
    const empty: SavedTensor = { dtype: 'bf16', shape: [0, 4], read: async () => new Uint8Array(0) };
    const where = await store.save({ ...checkpoint(5, undefined, { empty }), files });
    expect(where).toBe(join(folder, 'checkpoint-5'));
    expect(readdirSync(where).sort()).toEqual(['adapter_config.json', 'trainer.safetensors', 'trainer_state.json']);
    const saved = (await store.load())!;
    expect(saved.state).toEqual(JSON.parse(JSON.stringify(checkpoint(5).state)));
    expect(new Float32Array((await saved.tensors.get('parameters.ä')!.read()).buffer)).toEqual(
      Float32Array.of(5, 2, 3),
    );
    expect(saved.tensors.get('empty')).toMatchObject({ dtype: 'bf16', shape: [0, 4] });
    const other = await openSafetensors(bytesSource(new Uint8Array(readFileSync(join(where, 'trainer.safetensors')))));
    expect(other.tensors.get('parameters.ä')).toMatchObject({ dtype: 'F32', shape: [3] });
  });

  test('the last ones stay, and the best', async () => {
    const store = new FolderCheckpoints(folder, { keep: 2 });
    for (const step of [2, 4, 6, 8, 10]) await store.save(checkpoint(step, { step: 4, loss: 1 }));
    expect(list()).toEqual(['checkpoint-10', 'checkpoint-4', 'checkpoint-8']);
    expect((await store.load())!.state.step).toBe(10);
    expect((await store.load('best'))!.state.step).toBe(4);
    expect((await store.load(8))!.state.step).toBe(8);
    expect(await store.load(6)).toBeUndefined();
  });

  test('one of the same step is replaced', async () => {
    const store = new FolderCheckpoints(folder);
    await store.save(checkpoint(5));
    await store.save(checkpoint(5, undefined, { more: numbers(1) }));
    expect(list()).toEqual(['checkpoint-5']);
    expect([...(await store.load())!.tensors.keys()]).toContain('more');
  });

  test('a save that fails leaves what was there', async () => {
    const store = new FolderCheckpoints(folder);
    await store.save(checkpoint(5));
    const failing = (error: Error): SavedTensor => ({
      dtype: 'f32',
      shape: [4],
      read: async () => {
        throw error;
      },
    });
    await expect(store.save(checkpoint(6, undefined, { late: failing(new Error('device lost')) }))).rejects.toThrow(
      /checkpoint: cannot be written: .*checkpoint-6: device lost\. Earlier/,
    );
    const short: SavedTensor = { ...numbers(1), shape: [2] };
    await expect(store.save(checkpoint(6, undefined, { short }))).rejects.toThrow(/other bytes than its shape: short/);
    expect(list()).toEqual(['checkpoint-5']);
    expect((await store.load())!.state.step).toBe(5);
  });

  test('a full disk says so', async (context) => {
    if (spawnSync('unshare', ['-rm', 'true']).status !== 0) context.skip('no mount namespace for this user');
    const script = `
      import { FolderCheckpoints } from ${JSON.stringify(join(import.meta.dirname, '../src/node.ts'))};
      const store = new FolderCheckpoints(process.argv[1]);
      const save = (step, n) => store.save({ state: { step }, tensors: new Map([['x', { dtype: 'u8', shape: [n], read: async () => new Uint8Array(n) }]]) });
      await save(1, 1000);
      const error = await save(2, 4000000).catch((e) => e);
      console.log(JSON.stringify([error.message, (await store.load()).state.step]));
    `;
    const shell = `mount -t tmpfs -o size=1m none "$0" && exec "$1" --conditions=source --input-type=module -e "$2" -- "$0"`;
    const output = execFileSync('unshare', ['-rm', 'sh', '-c', shell, folder, process.execPath, script], {
      encoding: 'utf8',
    });
    const [message, latest] = JSON.parse(output) as [string, number];
    expect(message).toMatch(/cannot be written: .*ENOSPC.*The disk is full: free some space, then resume/);
    expect(latest).toBe(1);
  });

  test('what a process left in the middle of saving is cleared', async () => {
    const store = new FolderCheckpoints(folder);
    for (const step of [5, 6]) await store.save(checkpoint(step));
    mkdirSync(join(folder, '.new-checkpoint-7'));
    writeFileSync(join(folder, '.new-checkpoint-7/trainer.safetensors'), 'half');
    renameSync(join(folder, 'checkpoint-6'), join(folder, '.old-checkpoint-6'));
    mkdirSync(join(folder, '.old-checkpoint-5'));
    expect((await store.load())!.state.step).toBe(6);
    expect(list()).toEqual(['checkpoint-5', 'checkpoint-6']);
  });

  test('damage is named', async () => {
    const store = new FolderCheckpoints(folder);
    const where = await store.save(checkpoint(5));
    const file = join(where, 'trainer.safetensors');
    const whole = readFileSync(file);
    for (const [size, message] of [
      [4, /4 bytes/],
      [30, /header is cut off/],
      [whole.length - 1, /parameters\.ä is cut off/],
    ] as const) {
      writeFileSync(file, whole);
      truncateSync(file, size);
      await expect(store.load()).rejects.toThrow(message);
      await expect(store.load()).rejects.toThrow(/resume: checkpoint is damaged: .*checkpoint-5.*Resume from another/);
    }
    const garbled = Buffer.from(whole);
    garbled[8] = 0x21;
    writeFileSync(file, garbled);
    await expect(store.load()).rejects.toThrow(/header is not JSON/);
    rmSync(file);
    await expect(store.load()).rejects.toThrow(/damaged: .*ENOENT/);
    writeFileSync(join(where, 'trainer_state.json'), '{');
    await expect(store.load()).rejects.toThrow(/trainer_state\.json/);
  });
});

const child = fileURLToPath(new URL('./train-child.ts', import.meta.url));

test('a process killed at any moment and started again ends with the same bytes', async () => {
  /** Runs the child; kills it some time after it printed a line of a step. True when it came to its end. */
  const run = (out: string, killAt: number, after: number) =>
    new Promise<{ done: boolean; text: string }>((resolve, reject) => {
      const running = spawn(process.execPath, ['--conditions=source', child, out], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let text = '';
      let errors = '';
      let killing = false;
      running.stdout.on('data', (chunk: Buffer) => {
        text += chunk;
        if (!killing && text.includes(`step ${killAt}\n`)) {
          killing = true;
          setTimeout(() => running.kill('SIGKILL'), after);
        }
      });
      running.stderr.on('data', (chunk: Buffer) => (errors += chunk));
      running.on('error', reject);
      running.on('exit', (code, signal) =>
        code === 0 || signal ? resolve({ done: code === 0, text }) : reject(new Error(errors)),
      );
    });
  const wanted = join(folder, 'whole');
  expect((await run(wanted, Infinity, 0)).done).toBe(true);
  const killed = join(folder, 'killed');
  let kills = 0;
  for (const [killAt, after] of [
    [3, 0],
    [9, 3],
    [17, 7],
    [24, 1],
    [33, 12],
  ] as const) {
    const { done } = await run(killed, killAt, after);
    if (!done) kills++;
  }
  const last = await run(killed, Infinity, 0);
  expect(last.done).toBe(true);
  expect(kills).toBeGreaterThanOrEqual(3);
  expect(last.text).toMatch(/^from \d+\n/);
  for (const name of ['trainer.safetensors', 'trainer_state.json', 'adapter.txt'])
    expect(
      readFileSync(join(killed, 'checkpoint-40', name)).equals(readFileSync(join(wanted, 'checkpoint-40', name))),
      name,
    ).toBe(true);
  expect(readdirSync(killed).sort()).toEqual(['checkpoint-39', 'checkpoint-40']);
  const steps = readFileSync(`${killed}.jsonl`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).step);
  expect(steps).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
}, 300_000);

describe('metrics as JSON lines', () => {
  test('are appended, and cut where a run goes on', async () => {
    const path = join(folder, 'metrics.jsonl');
    const metrics = new JsonlMetrics(path);
    const line = (step: number) =>
      ({
        event: 'evaluation',
        step,
        epoch: 0,
        best: true,
        loss: 1,
        perplexity: Math.E,
        tokens: 1,
        samples: 1,
      }) as const;
    await metrics.resume(0);
    for (const step of [1, 2, 3]) await metrics.write(line(step));
    await metrics.close();
    writeFileSync(path, '{"step":4', { flag: 'a' });
    await metrics.resume(2);
    await metrics.write(line(3));
    await metrics.close();
    const steps = readFileSync(path, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((l) => JSON.parse(l).step);
    expect(steps).toEqual([1, 2, 3]);
    expect(existsSync(`${path}.new`)).toBe(false);
  });
});

describe('records of files', () => {
  async function records(name: string, content: string | Uint8Array): Promise<SourceRecord[]> {
    const path = join(folder, name);
    writeFileSync(path, content);
    const out: SourceRecord[] = [];
    for await (const record of readFileRecords(path)) out.push(record);
    return out;
  }
  const rows = [
    { question: 'one, two', answer: '3' },
    { question: 'ü\n', answer: '4' },
  ];

  test('by the end of the name', async () => {
    const questions = (found: SourceRecord[]) => found.map((r) => r.value.question);
    const wanted = rows.map((r) => r.question);
    const lines = rows.map((r) => JSON.stringify(r)).join('\n');
    expect(questions(await records('a.jsonl', lines))).toEqual(wanted);
    expect(questions(await records('a.ndjson', lines))).toEqual(wanted);
    expect(questions(await records('a.json', JSON.stringify(rows)))).toEqual(wanted);
    expect(questions(await records('a.csv', 'question,answer\n"one, two",3\n"ü\n",4'))).toEqual(wanted);
    expect(questions(await records('a.tsv', 'question\tanswer\none, two\t3\n"ü\n"\t4'))).toEqual(wanted);
    const parquet = parquetWriteBuffer({
      columnData: [
        { name: 'question', data: wanted, type: 'STRING' },
        { name: 'answer', data: [3n, 2n ** 60n + 1n], type: 'INT64' },
      ],
      rowGroupSize: 1,
    });
    const found = await records('a.parquet', new Uint8Array(parquet));
    expect(questions(found)).toEqual(wanted);
    expect(found.map((r) => [r.value.answer, r.where])).toEqual([
      [3, 'record 1 of a.parquet'],
      [2n ** 60n + 1n, 'record 2 of a.parquet'], // no number holds it
    ]);
  });

  test('errors name the file', async () => {
    await expect(records('a.jsonl', '{"a":1}\n{')).rejects.toThrow(/line 2 of a\.jsonl/);
    await expect(records('a.txt', 'x')).rejects.toThrow(/unknown kind of file: .*a\.txt\. Known: \.jsonl/);
    await expect(records('a.parquet', 'PAR1 not really')).rejects.toThrow(/broken Parquet file: a\.parquet/);
    const missing = readFileRecords(join(folder, 'none.jsonl')).next();
    await expect(missing).rejects.toThrow(/data: no such file: .*none\.jsonl/);
    mkdirSync(join(folder, 'd.jsonl'));
    await expect(readFileRecords(join(folder, 'd.jsonl')).next()).rejects.toThrow(/not a file/);
  });

  test('Parquet from a Blob and from bytes, nested values too', async () => {
    const messages = [
      [
        { role: 'user', content: 'u' },
        { role: 'assistant', content: 'a' },
      ],
    ];
    const bytes = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: 'messages', data: messages, type: 'JSON' }] }),
    );
    for (const input of [bytes, new Blob([bytes])]) {
      const out = [];
      for await (const r of readParquet(input)) out.push(r.value.messages);
      expect(out).toEqual(messages);
    }
  });
});
