/**
 * The same numbers on a GPU as on the CPU and by PEFT: same-numbers.mjs PART FILE.jsonl SECONDS BACKEND [small], packed by pack-bench.mjs and
 * called by bench.sh, which says what the parts are. Lines for benchmarks/records go to FILE.jsonl, words of the clients to FILE.jsonl.log.
 * LOWRANK_MODELS holds SmolLM2-135M-Instruct, dense and in bitsandbytes' 4 bits; LOWRANK_SHARED data/gsm8k/train.jsonl; LOWRANK_PYTHON runs
 * PyTorch, PEFT and bitsandbytes. `small` checks this file on any backend: few steps, few rows, no measurement.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { cpuBackend } from '../../packages/backend-cpu/src/index.ts';
import { openBackend } from '../../packages/cli/src/run/backend.ts';
import { openCheckpoint } from '../../packages/formats/src/index.ts';
import { folderResolver } from '../../packages/formats/src/node.ts';
import { saveAdapterFolder } from '../../packages/lora/src/node.ts';
import { loadModel } from '../../packages/models/src/index.ts';
import { folderFiles } from '../../packages/models/src/node.ts';
import { BlockwiseWeight } from '../../packages/nf4/src/index.ts';
import { Device } from '../../packages/tensor/src/index.ts';
import { formulaAdapter } from '../testing/formula-adapter.ts';
import { here, Part, type PeftTrained, type Trained } from './same-clients.ts';

const [name = '', file = '', seconds = '', backend = 'cuda', form] = process.argv.slice(2);
const small = form === 'small';
const models = process.env.LOWRANK_MODELS ?? '';
const shared = process.env.LOWRANK_SHARED ?? '';
const model = join(models, 'SmolLM2-135M-Instruct');
const where = backend.toUpperCase();
const place = backend === 'cpu' ? 'cpu' : 'cuda';
const work = mkdtempSync(join(tmpdir(), 'lowrank-same-'));
const part = new Part(name, work, { file: resolve(file), seconds: Number(seconds), gpu: backend !== 'cpu' });
const columns = ['--prompt', '{question}\\n', '--completion', '{answer}'];
const constant = [
  '--learning-rate',
  '5e-4',
  '--lr-scheduler',
  'constant',
  '--weight-decay',
  '0',
  '--max-grad-norm',
  '0',
];
const plain = ['--no-shuffle', '--samples', '0', '--overwrite'];
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

interface Hashes {
  readonly input: string;
  readonly codes: string;
  readonly absmax: string;
  readonly nestedAbsmax: string;
  readonly offset: number;
}

async function nf4(): Promise<void> {
  const recorded = readFileSync(join(here, 'fixtures/nf4/smollm2-hashes.json'), 'utf8');
  const weights = Object.entries((JSON.parse(recorded) as { weights: Record<string, Hashes> }).weights);
  const checkpoint = await openCheckpoint(folderResolver(model));
  await using device = new Device(await openBackend(backend));
  const differing: string[] = [];
  for (const [weight, want] of weights.slice(0, small ? 3 : undefined)) {
    const bytes = await checkpoint.read(weight);
    if (sha256(bytes) !== want.input) throw new Error(`${weight} of ${model} is not what the hashes were made of`);
    using values = device.fromBytes(bytes, 'bf16', (await checkpoint.tensor(weight))!.shape);
    using made = await BlockwiseWeight.quantize(values);
    const { codes, absmax, nestedAbsmax, offset } = made.quant;
    for (const [part, tensor] of Object.entries({ codes, absmax, nestedAbsmax: nestedAbsmax! }))
      if (sha256(await tensor.bytes()) !== want[part as 'codes']) differing.push(`${weight}: ${part}`);
    if ((await offset!.item()) !== want.offset) differing.push(`${weight}: offset`);
  }
  await checkpoint.close();
  const count = small ? 3 : weights.length;
  part.line(
    {
      kind: 'test',
      name: `NF4 of ${count} weights of SmolLM2-135M-Instruct made on ${where}: the bytes that bitsandbytes makes on the CPU`,
      status: differing.length ? 'failed' : 'passed',
      device: device.backend.caps.device,
      differing,
      command: `bench.sh ${name}`,
    },
    `${count} weights on ${device.backend.caps.device}: ${differing.length ? `${differing.length} parts differ, first ${differing[0]}` : 'every byte is equal'}`,
  );
}

/** A folder with the adapter that both clients begin with. */
async function initialAdapter(): Promise<string> {
  const folder = join(work, 'initial');
  await using device = new Device(await cpuBackend());
  using base = await loadModel(device, await folderFiles(model), { computeDtype: 'f32' });
  using lora = formulaAdapter(base, device);
  await saveAdapterFolder(lora, 'default', folder);
  return folder;
}

/** A line about two runs of one recipe: the largest relative difference of a step's loss. */
function compare(
  title: string,
  limit: number,
  own: Trained | undefined,
  other: Trained | Error | undefined,
  client: string,
) {
  if (!own || !other || other instanceof Error) {
    part.miss(`${title}: not compared${other instanceof Error ? `: ${other.message}` : ''}`);
    return;
  }
  const relative = own.losses.map((loss, i) => Math.abs(loss / other.losses[i]! - 1));
  const worst = Math.max(...relative);
  const same = JSON.stringify(own.tokens) === JSON.stringify(other.tokens);
  const mean = own.losses.reduce((a, b) => a + b, 0) / other.losses.reduce((a, b) => a + b, 0) - 1;
  part.line(
    {
      kind: 'test',
      name: `SmolLM2-135M-Instruct, ${own.losses.length} steps from one adapter, ${title}`,
      status: same && worst <= limit ? 'passed' : 'failed',
      limit,
      largestRelativeDifference: worst,
      relativeDifferenceOfMeans: mean,
      losses: own.losses,
      otherLosses: other.losses,
      tokens: own.tokens,
      otherClient: client,
      otherCommand: other.command,
      command: own.command,
    },
    `${title}: largest relative difference ${worst.toExponential(1)} (limit ${limit}), of the means ${mean.toExponential(1)}${same ? '' : '; the steps count other tokens'}`,
  );
}

const relativeTo = (exact: readonly number[]) => (losses: readonly number[]) =>
  Math.max(...losses.map((loss, i) => Math.abs(loss / exact[i]! - 1)));

/** A line about what bf16 costs both clients: the largest relative difference of a step's loss from the same steps in f32. */
function rounding(
  title: string,
  exact: Trained | undefined,
  own: Trained | undefined,
  other: Trained | Error | undefined,
  client: string,
) {
  if (!exact || !own || !other || other instanceof Error) return part.miss(`${title}: bf16 not compared with f32`);
  const [ours, theirs] = [own.losses, other.losses].map(relativeTo(exact.losses)) as [number, number];
  part.line(
    {
      kind: 'test',
      name: `SmolLM2-135M-Instruct, ${own.losses.length} steps from one adapter, ${title}: ${where} in bf16 is as near to f32 as PEFT in bf16, or within 1 %`,
      status: ours <= Math.max(theirs, 1e-2) ? 'passed' : 'failed',
      largestRelativeDifference: ours,
      otherLargestRelativeDifference: theirs,
      exactLosses: exact.losses,
      losses: own.losses,
      otherLosses: other.losses,
      otherClient: client,
      command: own.command,
    },
    `${title}: in bf16 ${ours.toExponential(1)} from f32 at most, PEFT ${theirs.toExponential(1)}`,
  );
}

async function twenty(): Promise<void> {
  const steps = small ? '2' : '20';
  const initial = await initialAdapter();
  const data = join(shared, 'data/gsm8k/train.jsonl');
  // a step of one row is noise in bf16: PEFT's own second loss parts by 2 % from its f32 one
  const batchOf = (dtype: string) => (dtype === 'bf16' && !small ? '16' : '1');
  const train = (method: string, dtype: string, on: string, batch = batchOf(dtype)) =>
    part.attempt(`lowrank ${method} in ${dtype} on ${on}, batch ${batch}`, () =>
      part.train([
        ...['--backend', on, '--dtype', dtype, '--model', model, '--method', method, '--adapter', initial],
        ...['--data', data, ...columns, '--max-length', '256', '--batch-size', batch, '--max-steps', steps],
        ...[...constant, ...plain, '--output', join(work, `${method}-${dtype}-${batch}-${on}`)],
      ]),
    );
  const runs = [
    { method: 'lora', dtype: 'f32', base: 'dense', client: 'PEFT' },
    { method: 'qlora', dtype: 'f32', base: 'bnb', client: "PEFT on bitsandbytes' values as f32" },
    { method: 'lora', dtype: 'bf16', base: 'dense', client: 'PEFT, autocast' },
    { method: 'qlora', dtype: 'bf16', base: 'bnb-live', client: 'PEFT and bitsandbytes, autocast' },
  ].filter(({ dtype }) => !(small && dtype === 'bf16' && backend === 'cpu'));
  const own = new Map(runs.map(({ method, dtype }) => [`${method}-${dtype}`, train(method, dtype, backend)]));
  const peft = part.peft(
    Object.fromEntries(
      runs.map(({ method, dtype, base }) => [
        `${method}-${dtype}`,
        [
          ...['--base', base, '--device', place, '--dtype', dtype, '--initial', initial],
          ...['--steps', steps, '--batch', batchOf(dtype), '--no-norms'],
        ],
      ]),
    ),
    models,
    shared,
  );
  for (const { method, dtype, client } of runs) {
    const key = `${method}-${dtype}`;
    const other = peft.get(key);
    const versions = other instanceof Error ? '' : versionsOf(other!);
    const title = `${method} in ${dtype}, batch ${batchOf(dtype)}: ${where} as PEFT on ${place.toUpperCase()}`;
    compare(title, dtype === 'f32' ? 1e-3 : 1e-2, own.get(key), other, `${client}; ${versions}`);
    if (dtype === 'bf16')
      rounding(
        `${method}, batch ${batchOf(dtype)}`,
        train(method, 'f32', backend, batchOf(dtype)),
        own.get(key),
        other,
        `${client}; ${versions}`,
      );
  }
  for (const method of ['lora', 'qlora'])
    compare(
      `${method} in f32, batch 1: ${where} as CPU`,
      1e-3,
      own.get(`${method}-f32`),
      train(method, 'f32', 'cpu'),
      'lowrank',
    );
}

function versionsOf({ versions }: PeftTrained): string {
  const names = { peft: 'PEFT', bitsandbytes: 'bitsandbytes', torch: 'torch', transformers: 'transformers' };
  return Object.entries(names)
    .flatMap(([key, shown]) => (versions[key] ? [`${shown} ${versions[key]}`] : []))
    .join(', ');
}

async function gsm8k(): Promise<void> {
  const heldOut = small ? 4 : 200;
  const batch = small ? '2' : '16';
  let rows = readFileSync(join(shared, 'data/gsm8k/train.jsonl'), 'utf8').trimEnd().split('\n');
  if (small) rows = [...rows.slice(0, 3), ...rows.slice(-heldOut)];
  else if (rows.length !== 7473) throw new Error(`${rows.length} rows of GSM8K are here, not its 7473`);
  // PEFT's script looks for the file by this path
  const folder = join(work, 'data/gsm8k');
  mkdirSync(folder, { recursive: true });
  const data = join(folder, 'train.jsonl');
  writeFileSync(data, `${rows.join('\n')}\n`);
  const held = join(work, 'held-out.jsonl');
  writeFileSync(held, `${rows.slice(-heldOut).join('\n')}\n`);
  const dtype = small && backend === 'cpu' ? 'f32' : 'bf16';
  const initial = await initialAdapter();
  const base = ['--backend', backend, '--dtype', dtype, '--model', model, '--method', 'qlora', '--adapter', initial];
  const cut = [...columns, '--max-length', '512'];
  const write = (client: string, { inputTokens, seconds, ...run }: Trained) => {
    const { evalBefore, evalAfter, evalTokens, losses, tokens: _, peakBytes, command } = run;
    const tokensPerSecond = Math.round(inputTokens / seconds);
    part.line(
      {
        kind: 'quality',
        model: 'SmolLM2-135M-Instruct',
        data: `GSM8K train.jsonl, answers only, rows in file order, cut at 512; the last ${heldOut} rows held out`,
        recipe: `one epoch (${losses.length} steps of ${batch}), one initial adapter, r 16, alpha 32, all linear, dropout 0, NF4 with double quantization, AdamW without decay, constant lr 5e-4, no clipping`,
        ...{ method: 'qlora', client, dtype, where, evalBefore, evalAfter, evalTokens, losses, command },
        ...{ trainSeconds: seconds, inputTokens, tokensPerSecond, peakBytes },
      },
      `${client}: ${evalBefore?.toFixed(4)} → ${evalAfter?.toFixed(4)} over ${evalTokens} tokens; ${losses.length} steps in ${seconds.toFixed(1)} s, ${tokensPerSecond} tokens/s, at most ${((peakBytes ?? 0) / 2 ** 30).toFixed(2)} GiB`,
    );
  };

  const own = part.attempt('lowrank', (): Trained => {
    const [before] = part.lowrank(['eval', ...base, '--data', held, ...cut, '--batch-size', batch]);
    const loop = ['--batch-size', batch, '--num-epochs', '1', ...constant, ...plain];
    const evaluated = ['--eval-rows', String(heldOut), '--eval-batch-size', batch];
    const output = ['--output', join(work, 'epoch')];
    const trained = part.train([...base, '--data', data, ...cut, ...loop, ...evaluated, ...output]);
    return { ...trained, evalBefore: (before as { loss: number }).loss };
  });
  if (own) write('lowrank', own);
  // on a CPU bitsandbytes' own layers take minutes a step
  const bnb = small && backend === 'cpu' ? 'bnb' : 'bnb-live';
  const words = ['--device', place, '--dtype', dtype, '--epoch', '--batch', batch, '--max-length', '512', '--no-norms'];
  const evaluated = ['--eval-rows', String(heldOut), '--eval-batch', batch];
  const other = part
    .peft({ epoch: ['--base', bnb, ...words, ...evaluated, '--initial', initial] }, models, work)
    .get('epoch')!;
  if (other instanceof Error) {
    part.miss(`PEFT: ${other.message}`);
    return;
  }
  write(`${versionsOf(other)}${dtype === 'bf16' ? ', autocast, sdpa' : ''}`, other);
  if (!own) return;
  const relative = own.evalAfter! / other.evalAfter! - 1;
  const same = own.evalTokens === other.evalTokens && JSON.stringify(own.tokens) === JSON.stringify(other.tokens);
  part.line(
    {
      kind: 'test',
      name: 'SmolLM2-135M-Instruct, one epoch of GSM8K by QLoRA: held-out loss as by PEFT and bitsandbytes',
      status: same && Math.abs(relative) <= 0.01 ? 'passed' : 'failed',
      limit: 0.01,
      relativeToPeft: relative,
      relativeToPeftBefore: own.evalBefore! / other.evalBefore! - 1,
      sameTokens: same,
      timesAsFast: other.seconds / own.seconds,
      command: own.command,
    },
    `held-out loss ${(100 * relative).toFixed(2)} % from PEFT's (limit 1 %), ${(other.seconds / own.seconds).toFixed(1)} times as fast${same ? '' : '; the batches count other tokens'}`,
  );
}

async function demo(): Promise<void> {
  const few = join(work, 'few.jsonl');
  const held = join(here, 'bundled/instructions/heldout.jsonl');
  if (!existsSync(held)) throw new Error('no bundled model is beside the command line: bundled/ of the repository');
  writeFileSync(few, `${readFileSync(held, 'utf8').split('\n').slice(0, 3).join('\n')}\n`);
  const { stdout, stderr, status, reason } = part.run(process.execPath, [
    ...[join(here, 'lowrank.mjs'), 'demo'],
    ...(small ? ['--max-steps', '2', '--eval-data', few] : []),
  ]);
  writeFileSync(join(file, '../demo.log'), `${stdout}\n${stderr}`);
  const said = stderr.split('\n').find((line) => line.startsWith(`${backend}: `));
  const scores = /^(Done|The target was missed): .*/m.exec(stdout)?.[0];
  const passed = said !== undefined && scores !== undefined && (status === 0 || small);
  part.line(
    {
      kind: 'test',
      name: `lowrank demo takes ${where} by itself and says so`,
      status: passed ? 'passed' : 'failed',
      ...(said ? { said } : {}),
      ...(scores ? { scores } : { reason }),
      command: 'lowrank demo',
    },
    `${said ?? `it did not say that it runs on ${backend}`}; ${scores ?? reason}`,
  );
}

const parts: Readonly<Record<string, () => Promise<void>>> = { nf4, twenty, gsm8k, demo };
const needs: Readonly<Record<string, readonly string[]>> = {
  nf4: [model],
  twenty: [model, `${model}-bnb-4bit`, join(shared, 'data/gsm8k/train.jsonl')],
  gsm8k: [model, `${model}-bnb-4bit`, join(shared, 'data/gsm8k/train.jsonl')],
};
const absent = (needs[name] ?? []).filter((path) => !existsSync(path));
if (absent.length)
  part.miss(
    `not here: ${absent.join(', ')}. Pieces with the model are wanted: pack-bench.mjs --models, then bench.sh receive`,
  );
else
  await parts[name]!().catch((error: unknown) =>
    part.miss(error instanceof Error ? (error.stack ?? error.message) : String(error)),
  );
rmSync(work, { recursive: true });
process.exit(part.failed ? 1 : 0);
