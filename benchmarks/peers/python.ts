/**
 * Python stacks on the training steps of the train suite, in processes of their own: PyTorch with PEFT (and bitsandbytes for QLoRA), the same
 * with Liger's kernels, Unsloth. On the CPU beside our CPU backend, on the GPU beside those that use one.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Runner } from '../src/jobs/runner.ts';
import type { ContenderFacts } from '../src/record.ts';
import type { StepRunner, TrainCase } from '../src/suites/train.ts';

type Stack = 'peft' | 'liger' | 'unsloth';
type Place = 'cpu' | 'cuda';

/** What a stack imports, what installs it, and which steps it has. */
const stacks: Readonly<
  Record<Stack, { modules: readonly string[]; install: string; places: readonly Place[]; takes(c: TrainCase): boolean }>
> = {
  peft: {
    modules: ['torch', 'transformers', 'peft'],
    install: 'torch transformers peft bitsandbytes',
    places: ['cpu', 'cuda'],
    takes: (c) => c.recompute !== 'selective' && !c.offload,
  },
  liger: {
    modules: ['torch', 'transformers', 'peft', 'liger_kernel'],
    install: 'torch transformers peft bitsandbytes liger-kernel',
    places: ['cuda'],
    takes: (c) => c.recompute !== 'selective' && !c.offload,
  },
  unsloth: {
    modules: ['torch', 'transformers', 'peft', 'unsloth'],
    install: 'unsloth bitsandbytes',
    places: ['cuda'],
    // where it recomputes, it offloads
    takes: (c) => c.method !== 'full' && (c.recompute === 'none' || (c.recompute === 'block' && c.offload === true)),
  },
};

/** The interpreter: LOWRANK_PYTHON, the one that the shared folder makes, or python3. */
function interpreter(): string {
  if (process.env.LOWRANK_PYTHON) return process.env.LOWRANK_PYTHON;
  const get = join(process.env.LOWRANK_SHARED ?? join(import.meta.dirname, '../../../shared'), 'python/get');
  if (!existsSync(get)) return 'python3';
  return execFileSync(get, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

interface Found {
  readonly modules: readonly string[];
  readonly cuda: boolean;
}

/** Which modules an interpreter has, and whether its PyTorch sees a GPU. */
function probe(python: string): Found {
  const names = [...new Set([...Object.values(stacks).flatMap((s) => s.modules), 'bitsandbytes'])];
  const script = [
    'import importlib.util, json',
    `found = [m for m in ${JSON.stringify(names)} if importlib.util.find_spec(m)]`,
    "cuda = 'torch' in found and __import__('torch').cuda.is_available()",
    "print(json.dumps({'modules': found, 'cuda': bool(cuda)}))",
  ].join('\n');
  return JSON.parse(execFileSync(python, ['-c', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }));
}

export interface Peers<T> {
  readonly found: readonly T[];
  readonly absent: readonly { readonly facts: ContenderFacts; readonly reason: string }[];
}

const factsOf = (stack: Stack, place: Place): ContenderFacts => ({
  name: stack,
  kind: 'peer',
  device: `PyTorch on ${place === 'cpu' ? 'the CPU' : 'the GPU'}`,
  driver: null,
  features: [],
});

/** Runners of the stacks that are installed, at the places asked; the others with what installs them. */
export function pythonPeers(places: readonly Place[]): Peers<StepRunner> {
  const found: StepRunner[] = [];
  const absent: { facts: ContenderFacts; reason: string }[] = [];
  let python = 'python3';
  let has: Found = { modules: [], cuda: false };
  let trouble = '';
  try {
    python = interpreter();
    has = probe(python);
  } catch (error) {
    trouble = `${(error as Error).message.split('\n')[0]}. `;
  }
  const script = join(import.meta.dirname, 'peft_step.py');
  for (const [stack, { modules, install, places: able, takes }] of Object.entries(stacks) as [
    Stack,
    (typeof stacks)[Stack],
  ][])
    for (const place of places.filter((p) => able.includes(p))) {
      const facts = factsOf(stack, place);
      const lacks = modules.filter((m) => !has.modules.includes(m));
      const why = lacks.length
        ? `no module ${lacks.join(', ')}`
        : place === 'cuda' && !has.cuda
          ? 'PyTorch sees no GPU'
          : '';
      if (trouble || why) {
        const names = `or name an interpreter by LOWRANK_PYTHON`;
        absent.push({ facts, reason: `${trouble}${why}. Install: ${python} -m pip install ${install} (${names})` });
        continue;
      }
      const bits = has.modules.includes('bitsandbytes');
      if (!bits)
        absent.push({
          facts: { ...facts, name: `${stack} with bitsandbytes` },
          reason: `no module bitsandbytes, so no QLoRA. Install: ${python} -m pip install bitsandbytes`,
        });
      found.push({
        facts,
        dtype: place === 'cpu' ? 'f32' : 'bf16',
        // the eager variant is one of ours
        takes: (c) => takes(c) && c.record !== 'off' && !c.callByCall && (bits || c.method !== 'qlora'),
        start: (job, signal) =>
          new Runner(stack, python, [script, JSON.stringify({ ...job, stack, place })], signal ? { signal } : {}),
      });
    }
  return { found, absent };
}
