/**
 * SmolLM2-135M-Instruct learns GSM8K by `lowrank train` and by PEFT on one machine: lines of kind `quality` for benchmarks/records.
 *
 * usage: node scripts/reference/gsm8k.ts --work DIR --record FILE.jsonl [--method lora|qlora] [--backend cpu] [--dtype f32] [--steps 60]
 *        [--threads 2]
 *
 * For LoRA and QLoRA each (or one of them): PEFT by smollm2_train.py (a result that DIR holds already is taken), then `lowrank train`, `lowrank eval` of the
 * held-out rows before and after, and `lowrank generate` on one of them. Fails where the two held-out losses part by more than 2 %.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { modelsDir, pythonPath, sharedPath } from '../testing/shared.ts';

const root = resolve(import.meta.dirname, '../..');
const heldOut = 200;
const { values } = parseArgs({
  options: {
    work: { type: 'string' },
    record: { type: 'string' },
    method: { type: 'string' },
    backend: { type: 'string', default: 'cpu' },
    dtype: { type: 'string', default: 'f32' },
    steps: { type: 'string', default: '60' },
    threads: { type: 'string', default: '2' },
  },
});
const { backend, dtype, steps, threads } = values;
if (!values.work || !values.record) throw new Error('gsm8k: --work and --record are needed');
const [work, record] = [resolve(values.work), resolve(values.record)];
const [models, gsm8k, python] = [modelsDir(), sharedPath('data/gsm8k/train.jsonl'), pythonPath()].map(
  ({ path, skip }) => {
    if (path === undefined) throw new Error(`gsm8k: ${skip}`);
    return path;
  },
) as [string, string, string];
const model = join(models, 'SmolLM2-135M-Instruct');

const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
const stamp = {
  commit: `${git('rev-parse', '--short=12', 'HEAD')}${git('status', '--porcelain', '--untracked-files=no') ? '+' : ''}`,
  at: new Date().toISOString().slice(0, 10),
  gpu: backend === 'cpu' ? `${cpus().length} cores, ${cpus()[0]!.model}` : backend,
  driver: `Node.js ${process.version}`,
};
const facts = {
  model: 'SmolLM2-135M-Instruct',
  data: `GSM8K train.jsonl, answers only, rows in file order, cut at 256; the last ${heldOut} rows held out`,
  recipe: `r 16, alpha 32, all linear, dropout 0, batch 4, ${steps} steps, AdamW without decay, constant lr 5e-4, no clipping`,
};

interface Trained {
  evalBefore: number;
  evalAfter: number;
  evalTokens: number;
  losses: number[];
}

function peft(base: string): Trained & { versions: Record<string, string>; command: string } {
  const output = join(work, `peft-${base}-${steps}`);
  const args = ['--base', base, '--steps', steps, '--batch', '4', '--eval-rows', String(heldOut)];
  const result = join(output, 'result.json');
  if (!existsSync(result))
    execFileSync(python, [join(root, 'scripts/reference/smollm2_train.py'), '--output', output, ...args], {
      stdio: 'inherit',
      env: { ...process.env, LOWRANK_THREADS: threads },
    });
  return { ...JSON.parse(readFileSync(result, 'utf8')), command: `smollm2_train.py ${args.join(' ')}` };
}

/** The JSON lines of a command. */
function lowrank(...args: string[]): Record<string, unknown>[] {
  const main = join(root, 'packages/cli/src/main.ts');
  const machine = [
    '--backend',
    backend,
    '--dtype',
    dtype,
    ...(backend === 'cpu' ? ['--threads', threads] : []),
    '--json',
  ];
  const text = execFileSync(process.execPath, ['--conditions=source', main, ...args, ...machine], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 26,
  });
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function ours(method: 'lora' | 'qlora'): Trained & { command: string; answer: string } {
  const output = join(work, `lowrank-${backend}-${dtype}-${method}-${steps}`);
  const rows = readFileSync(gsm8k, 'utf8').trim().split('\n');
  const held = join(work, 'held-out.jsonl');
  writeFileSync(held, `${rows.slice(-heldOut).join('\n')}\n`);
  const columns = ['--prompt', '{question}\\n', '--completion', '{answer}', '--max-length', '256'];
  const adapter = ['--method', method, '--r', '16', '--lora-alpha', '32', '--target-modules', 'all-linear'];
  const loop = ['--batch-size', '4', '--no-shuffle', '--max-steps', steps, '--learning-rate', '5e-4'];
  const rest = ['--lr-scheduler', 'constant', '--weight-decay', '0', '--max-grad-norm', '0', '--samples', '0'];
  const train = [...columns, ...adapter, ...loop, ...rest, '--eval-rows', String(heldOut), '--eval-batch-size', '4'];
  const evaluated = (...base: string[]) =>
    lowrank('eval', ...base, '--data', held, ...columns, '--batch-size', '4')[0] as { loss: number; tokens: number };
  const before = evaluated('--model', model, '--method', method);
  const lines = lowrank('train', '--model', model, '--data', gsm8k, ...train, '--output', output, '--overwrite');
  const end = lines.filter((l) => l.event === 'evaluation').at(-1) as unknown as { loss: number };
  const after = evaluated('--adapter', output);
  if (Math.abs(after.loss / end.loss - 1) > 1e-5)
    throw new Error(`gsm8k: eval says ${after.loss}, train said ${end.loss}`);
  const { question } = JSON.parse(rows.at(-1)!) as { question: string };
  const [answered] = lowrank('generate', '--adapter', output, `${question.replaceAll('\\', '\\\\')}\\n`);
  return {
    evalBefore: before.loss,
    evalAfter: after.loss,
    evalTokens: after.tokens,
    losses: lines.filter((l) => l.event === 'step').map((l) => l.loss as number),
    command: `lowrank train --backend ${backend} --dtype ${dtype} --model SmolLM2-135M-Instruct --data gsm8k/train.jsonl ${train.map((a) => (/[{}\\]/.test(a) ? `'${a}'` : a)).join(' ')}`,
    answer: String(answered!.text),
  };
}

mkdirSync(work, { recursive: true });
for (const [method, base] of [
  ['lora', 'dense'],
  ['qlora', 'bnb'],
] as const) {
  if (values.method && values.method !== method) continue;
  const theirs = peft(base);
  const own = ours(method);
  const { torch, transformers, peft: version } = theirs.versions;
  const common = { kind: 'quality', ...stamp, ...facts, method, evalTokens: own.evalTokens };
  const line = (
    client: string,
    from: Trained & { command: string },
    where: string,
    form: string,
    more: object = {},
  ) => {
    const { evalBefore, evalAfter, losses, command } = from;
    const value = { ...common, client, dtype: form, where, evalBefore, evalAfter, losses, command, ...more };
    appendFileSync(record, `${JSON.stringify(value)}\n`);
  };
  const nf4 = method === 'qlora' ? ', values of the bitsandbytes checkpoint as f32' : '';
  line(`PEFT ${version}, torch ${torch}, transformers ${transformers}${nf4}`, theirs, 'CPU', 'f32');
  const relativeToPeft = own.evalAfter / theirs.evalAfter - 1;
  line('lowrank', own, backend.toUpperCase(), dtype, { relativeToPeft, answer: own.answer });
  console.log(
    `${method}: PEFT ${theirs.evalBefore.toFixed(4)} → ${theirs.evalAfter.toFixed(4)}, lowrank ${own.evalBefore.toFixed(4)} → ${own.evalAfter.toFixed(4)} (${(100 * relativeToPeft).toFixed(2)} %)`,
  );
  if (theirs.evalTokens !== own.evalTokens) throw new Error(`gsm8k: ${theirs.evalTokens} and ${own.evalTokens} tokens`);
  if (Math.abs(relativeToPeft) > 0.02) throw new Error(`gsm8k: ${method} parts from PEFT by ${relativeToPeft}`);
}
