import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { call, fewRecords, shortRun, start, temporary } from './cli.ts';

const folder = temporary();
const data = fewRecords(folder, 24);
/** How often the run is killed; LOWRANK_KILLS=20 for the long form. */
const kills = Number(process.env.LOWRANK_KILLS ?? 3);
// a killed process gets at most five steps far: every one of them is killed before the end
const steps = 6 * kills;
// dropout, shuffling and evaluations go on as well
const options = [
  '--method',
  'qlora',
  '--max-steps',
  String(steps),
  '--save-steps',
  '2',
  '--lora-dropout',
  '0.1',
  '--eval-rows',
  '4',
  '--eval-steps',
  '3',
  '--learning-rate',
  '1e-3',
  '--json',
];

/** What a run leaves that does not depend on the clock. */
function left(output: string) {
  const metrics = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return {
    adapter: readFileSync(join(output, 'adapter_model.safetensors')).toString('base64'),
    state: readFileSync(join(output, `checkpoint-${steps}/trainer_state.json`), 'utf8'),
    losses: metrics.map((line) => JSON.parse(line)).map((m) => [m.event, m.step, m.loss]),
  };
}

/** Random numbers with a seed (mulberry32), so that a failure can be had again. */
function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('killed at random moments and resumed, a run ends with the bytes of the run never stopped', {
  timeout: 200_000 * kills,
}, async () => {
  const whole = join(folder, 'whole');
  const straight = await call(...shortRun(data, whole, ...options));
  expect(straight.code, straight.stderr).toBe(0);
  const killed = join(folder, 'killed');
  const next = random(20);
  for (let i = 0; i < kills; i++) {
    // a few steps on, and a moment later: while it steps or saves
    const target = Math.floor(next() * 5);
    const delay = next() * 60;
    const child = start(shortRun(data, killed, ...options, '--resume'), {
      onOutput: (text) => {
        if (text.split('"event":"step"').length - 1 > target) setTimeout(() => child.kill('SIGKILL'), delay);
      },
    });
    const outcome = await child.done;
    expect(outcome.code, `kill ${i} came too late: ${outcome.stderr}`).toBeNull();
  }
  const last = await call(...shortRun(data, killed, ...options, '--resume'));
  expect(last.code, last.stderr).toBe(0);
  expect(left(killed)).toEqual(left(whole));
});

test('Ctrl-C saves a checkpoint and says how to go on; going on so ends as if never stopped', {
  timeout: 300_000,
}, async () => {
  const whole = join(folder, 'whole');
  const stopped = join(folder, 'stopped');
  let sent = false;
  const child = start(shortRun(data, stopped, ...options.filter((o) => o !== '--json')), {
    onOutput: (text) => {
      // a second one would end the process at once
      const steps = /step \d+\//.test(text);
      if (steps && !sent) child.kill('SIGINT');
      sent ||= steps;
    },
  });
  const outcome = await child.done;
  expect(outcome.code, outcome.stderr).toBe(130);
  expect(outcome.stderr).toContain('SIGINT: finishing the step');
  const advice = /lowrank train --config \S+ --resume/.exec(outcome.stdout)?.[0];
  expect(advice).toBe(`lowrank train --config ${stopped}/lowrank.json --resume`);
  const resumed = await call(...advice!.split(' ').slice(1));
  expect(resumed.code, resumed.stderr).toBe(0);
  expect(resumed.stderr).toContain('going on from step');
  expect(left(stopped)).toEqual(left(whole));
});

test('other data or settings do not go with a checkpoint', async () => {
  const other = fewRecords(folder, 20, 'other.jsonl');
  const done = await call(...shortRun(other, join(folder, 'whole'), ...options, '--resume'));
  expect(done.code).toBe(1);
  expect(done.stderr).toContain('the run was set up otherwise');
  // what scales the adapter, and the base beneath it, are part of what a checkpoint's numbers mean
  const record = readFileSync(join(folder, 'whole/lowrank.json'), 'utf8');
  for (const [more, message] of [
    [['--lora-alpha', '64'], '--lora-alpha 8 then, 64 now'],
    [['--method', 'lora'], 'method qlora then, lora now'],
    [['--quant-type', 'fp4'], '--quant-type nf4 then, fp4 now'],
  ] as const) {
    const refused = await call(...shortRun(data, join(folder, 'whole'), ...options, ...more, '--resume'));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(message);
  }
  expect(readFileSync(join(folder, 'whole/lowrank.json'), 'utf8')).toBe(record);
});

test('a run that begins at a checkpoint of another folder ends with the best of both', async () => {
  const [first, second] = [join(folder, 'first'), join(folder, 'second')];
  const evaluated = ['--eval-rows', '4', '--eval-steps', '2', '--load-best-at-end', '--json'];
  const begun = await call(...shortRun(data, first, ...evaluated, '--learning-rate', '1e-2'));
  expect(begun.code, begun.stderr).toBe(0);
  // steps that lead away from it
  const far = ['--max-steps', '6', '--learning-rate', '1', '--resume', join(first, 'checkpoint-2')];
  const done = await call(...shortRun(data, second, ...evaluated, ...far));
  expect(done.code, done.stderr).toBe(0);
  expect(done.lines().at(-1)).toMatchObject({ step: 6, best: { step: 2 } });
  const weights = (path: string) => readFileSync(join(path, 'adapter_model.safetensors')).toString('base64');
  expect(weights(second)).toBe(weights(first));
});
