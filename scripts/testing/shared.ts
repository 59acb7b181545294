import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { TestContext } from 'vitest';

/**
 * A thing outside the repository that a test compares with: its path, or why it is not here.
 * In CI (`CI=true`) a missing one is an error, so that nothing goes untested there.
 */
export type Shared =
  | { readonly path: string; readonly skip?: never }
  | { readonly path?: never; readonly skip: string };

const folder = process.env.LOWRANK_SHARED ?? resolve(import.meta.dirname, '../../../shared');
const made = new Map<string, Shared>();

/** A file or folder of the shared folder: `sharedPath('data/gsm8k/train.jsonl')`. */
export function sharedPath(name: string): Shared {
  const path = join(folder, name);
  return existsSync(path) ? { path } : missing(`${path} is not there (LOWRANK_SHARED names another folder)`);
}

/** The folder with SmolLM2-135M-Instruct (GGUF, Hugging Face, bitsandbytes 4-bit) and all-MiniLM-L6-v2. */
export function modelsDir(): Shared {
  return make('models/get', ['--hf']);
}

/** The interpreter with PyTorch, transformers, PEFT, bitsandbytes, safetensors and gguf. */
export function pythonPath(): Shared {
  return make('python/get', []);
}

/** Chromium of the system (`CHROMIUM` names another); Playwright's own is not fetched. */
export function chromiumPath(): Shared {
  const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const path = (process.env.CHROMIUM ? [process.env.CHROMIUM] : places).find((place) => existsSync(place));
  return path ? { path } : missing(`no Chromium at ${process.env.CHROMIUM ?? places.join(', ')}`);
}

/** CUDA's compiler: `NVCC`, or the one on the path. */
export function nvccPath(): Shared {
  const path = process.env.NVCC ?? 'nvcc';
  try {
    execFileSync(path, ['--version'], { stdio: 'ignore' });
    return { path };
  } catch {
    return missing(`${path} does not run: kernels cannot be compiled (NVCC names the compiler)`);
  }
}

/**
 * The path, or the test skips with the reason shown:
 *
 *     test('reads GSM8K', (context) => {
 *       const file = need(context, sharedPath('data/gsm8k/train.jsonl'));
 */
export function need(context: Pick<TestContext, 'skip'>, shared: Shared): string {
  if (shared.path !== undefined) return shared.path;
  return context.skip(shared.skip);
}

function make(script: string, args: string[]): Shared {
  const known = made.get(script);
  if (known) return known;
  const found = sharedPath(script);
  const result = found.path === undefined ? found : runGet(found.path, args);
  made.set(script, result);
  return result;
}

/** The scripts print one line, the path; the first run downloads, later ones take milliseconds. */
function runGet(script: string, args: string[]): Shared {
  try {
    const path = execFileSync(script, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
    return { path };
  } catch (error) {
    const stderr = String((error as { stderr?: unknown }).stderr ?? error).trim();
    return missing(`${script} failed: ${stderr.split('\n').at(-1)}`);
  }
}

function missing(reason: string): Shared {
  if (process.env.CI === 'true') throw new Error(`shared: must be present in CI: ${reason}`);
  return { skip: reason };
}
