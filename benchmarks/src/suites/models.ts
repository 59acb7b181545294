/** The suites load and quality: whole models, each case in a process of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../backends.ts';
import type { LoadJob } from '../jobs/load-job.ts';
import type { QualityJob } from '../jobs/quality-job.ts';
import { type JobName, startJob } from '../jobs/runner.ts';
import type { CaseShape, ContenderFacts } from '../record.ts';
import type { Session } from '../session.ts';

interface ModelCase {
  readonly name: string;
  readonly quick: boolean;
  /** `bundled` is everywhere; the other one comes from the shared folder. */
  readonly model: 'bundled' | 'smollm2-135m';
}

export interface LoadCase extends ModelCase, Pick<LoadJob, 'form' | 'storage'> {}

function loading(
  model: ModelCase['model'],
  form: LoadCase['form'],
  storage: LoadCase['storage'],
  quick = false,
): LoadCase {
  const stored = form === 'gguf' ? 'gguf q4_1' : form === 'bitsandbytes' ? 'bitsandbytes nf4' : form;
  return {
    name: `${model} ${stored}${storage === 'dense' ? '' : ` to ${storage}`}`,
    quick,
    model,
    form,
    storage,
  };
}

/** Checkpoint to device by format and quantization. */
export const loadCases: readonly LoadCase[] = [
  loading('bundled', 'safetensors', 'dense', true),
  loading('bundled', 'safetensors', 'nf4', true),
  loading('bundled', 'safetensors', 'fp4'),
  loading('bundled', 'safetensors', 'int8'),
  loading('bundled', 'bitsandbytes', 'dense', true),
  ...(['dense', 'nf4', 'int8'] as const).map((storage) => loading('smollm2-135m', 'safetensors', storage)),
  loading('smollm2-135m', 'bitsandbytes', 'dense'),
  ...(['dense', 'nf4'] as const).map((storage) => loading('smollm2-135m', 'gguf', storage)),
];

export interface QualityCase extends ModelCase, Pick<QualityJob, 'method' | 'storage' | 'rank'> {}

function training(model: ModelCase['model'], method: string, quick = false): QualityCase {
  const [, kind, storage = 'dense', r = '16'] = /^(full|lora|qlora)(?: (nf4|fp4|int8))?(?: r (\d+))?$/.exec(method)!;
  return {
    name: `${model} ${method}`,
    quick,
    model,
    method: kind as QualityCase['method'],
    storage: storage as QualityCase['storage'],
    rank: Number(r),
  };
}

const methods = ['full', 'lora r 4', 'lora r 16', 'lora r 64', 'qlora nf4 r 16', 'qlora fp4 r 16', 'qlora int8 r 16'];

/** The methods side by side on one task. */
export const qualityCases: readonly QualityCase[] = [
  ...methods.map((m) => training('bundled', m, ['full', 'lora r 16', 'qlora nf4 r 16'].includes(m))),
  ...methods.map((m) => training('smollm2-135m', m)),
];

interface SharedFiles {
  readonly models: string;
  readonly gsm8k: string;
}

/** What lies outside the repository, or why it does not and what brings it. */
function sharedFiles(): SharedFiles | { readonly missing: string } {
  const shared = process.env.LOWRANK_SHARED ?? join(import.meta.dirname, '../../../../shared');
  const get = join(shared, 'models/get');
  const gsm8k = join(shared, 'data/gsm8k/train.jsonl');
  const lacks = (what: string) => ({
    missing: `${what} is not there. LOWRANK_SHARED names the folder with models/get (SmolLM2-135M-Instruct) and data/gsm8k`,
  });
  const models = process.env.LOWRANK_MODELS;
  if (!existsSync(gsm8k)) return lacks(gsm8k);
  if (models) return existsSync(models) ? { models, gsm8k } : lacks(models);
  if (!existsSync(get)) return lacks(get);
  try {
    return {
      models: execFileSync(get, ['--hf'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim(),
      gsm8k,
    };
  } catch (error) {
    return { missing: `${get} failed: ${reasonOf(error)}` };
  }
}

let known: ReturnType<typeof sharedFiles> | undefined;

const pathOf = ({ models }: SharedFiles, form: LoadCase['form']) =>
  join(
    models,
    {
      safetensors: 'SmolLM2-135M-Instruct',
      bitsandbytes: 'SmolLM2-135M-Instruct-bnb-4bit',
      gguf: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    }[form],
  );

type Backends = readonly { readonly name: string; readonly facts: ContenderFacts; readonly dtype: string }[];

export async function runLoad(session: Session, backends: Backends, cases: readonly LoadCase[]): Promise<void> {
  const { full } = session.options;
  await runCases(session, 'load', 'load-job', backends, cases, (c, files) => ({
    job: {
      name: c.name,
      ...(files ? { path: pathOf(files, c.form) } : {}),
      form: c.form,
      storage: c.storage,
      repeats: full ? 7 : 3,
    } satisfies LoadJob,
  }));
}

export async function runQuality(session: Session, backends: Backends, cases: readonly QualityCase[]): Promise<void> {
  const { seed, full, steps, heldOut } = session.options;
  await runCases(session, 'quality', 'quality-job', backends, cases, (c, files) => {
    const { method, storage, rank } = c;
    const common = { name: c.name, method, storage, rank, seed };
    const job: QualityJob = files
      ? {
          ...common,
          task: 'gsm8k',
          model: pathOf(files, 'safetensors'),
          data: files.gsm8k,
          steps: steps ?? 60,
          heldOut: heldOut ?? 200,
          questions: Math.min(32, heldOut ?? 32),
        }
      : // the recipe's run, or enough of it to see that everything learns
        {
          ...common,
          task: 'bundled',
          steps: steps ?? (full ? 320 : 20),
          heldOut: heldOut ?? (full ? 200 : 64),
          questions: Math.min(full ? 200 : 16, heldOut ?? 200),
        };
    return { job, shape: { model: c.model, method, storage, ...(method === 'full' ? {} : { rank }) } };
  });
}

async function runCases<C extends ModelCase>(
  session: Session,
  suite: 'load' | 'quality',
  script: JobName,
  backends: Backends,
  cases: readonly C[],
  make: (c: C, files: SharedFiles | undefined) => { readonly job: object; readonly shape?: CaseShape },
): Promise<void> {
  const { threads } = session.options;
  const { signal } = session;
  for (const [i, c] of cases.entries())
    for (const { name, facts, dtype } of backends) {
      signal.throwIfAborted();
      session.say(`${suite} ${i + 1}/${cases.length}: ${c.name} on ${facts.name}`);
      if (c.model !== 'bundled') known ??= sharedFiles();
      const files = c.model === 'bundled' ? undefined : known!;
      if (files && 'missing' in files) {
        session.miss(suite, c.name, facts, 'absent', files.missing);
        continue;
      }
      const { job, shape } = make(c, files);
      session.lookFrom();
      await using child = startJob(
        script,
        facts.name,
        [name, JSON.stringify({ ...job, ...(threads ? { threads } : {}) })],
        signal,
      );
      try {
        const { device, driver, features, packages } = await child.expect('ready');
        const { samples, work, figures, notes, cpuMilliseconds } = await child.expect('result');
        session.lookBack(cpuMilliseconds);
        const contender = { ...facts, device, driver, features };
        session.add(
          suite,
          c.name,
          contender,
          { samples, work, figures, notes },
          { packages, ...(shape ? { shape: { ...shape, dtype } } : {}) },
        );
      } catch (error) {
        signal.throwIfAborted(); // an interrupted job has not failed
        session.miss(suite, c.name, facts, 'failed', reasonOf(error));
      }
    }
}
