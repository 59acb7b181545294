/** PyTorch with PEFT and bitsandbytes on the training steps of the train suite, in a process of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Runner } from '../src/jobs/runner.ts';
import type { ContenderFacts } from '../src/record.ts';
import type { StepRunner } from '../src/suites/train.ts';

const facts: ContenderFacts = { name: 'peft', kind: 'peer', device: 'PyTorch on the CPU', driver: null, features: [] };

/** The interpreter: LOWRANK_PYTHON, the one that the shared folder makes, or python3. */
function interpreter(): string {
  if (process.env.LOWRANK_PYTHON) return process.env.LOWRANK_PYTHON;
  const get = join(process.env.LOWRANK_SHARED ?? join(import.meta.dirname, '../../../shared'), 'python/get');
  if (!existsSync(get)) return 'python3';
  return execFileSync(get, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/** The runner, or why there is none and what installs it. */
export function pythonPeer(): { runner: StepRunner } | { facts: ContenderFacts; reason: string } {
  let python = 'python3';
  try {
    python = interpreter();
    execFileSync(python, ['-c', 'import torch, transformers, peft, bitsandbytes'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } catch (error) {
    const stderr = String((error as { stderr?: Buffer }).stderr ?? '').trim();
    const why = stderr.split('\n').at(-1) || (error as Error).message.split('\n')[0];
    return {
      facts,
      reason: `${why}. Install: ${python} -m pip install torch transformers peft bitsandbytes (or name an interpreter by LOWRANK_PYTHON)`,
    };
  }
  const script = join(import.meta.dirname, 'peft_step.py');
  return { runner: { facts, dtype: 'f32', start: (job) => new Runner('peft', python, [script, JSON.stringify(job)]) } };
}
