import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bytesSource, openSafetensors } from '@lowrank/formats';

const script = fileURLToPath(new URL('../../../scripts/reference/check_outputs.py', import.meta.url));

/** What the real clients load: a model folder, dense or in 4 bits, and an adapter on it. */
export interface ClientCase {
  readonly model: string;
  readonly adapter?: string;
}

/** Token ids, and at which positions logits are wanted; the last one by default. */
export interface ClientPrompt {
  readonly ids: readonly number[];
  readonly positions?: readonly number[];
}

/**
 * f32 logits that transformers, PEFT and bitsandbytes give for each case: one array a prompt. All cases share a process, since importing
 * the clients takes longer than the rest. Throws where a key of a file is missing or finds no place.
 */
export async function clientLogits(
  interpreter: string,
  prompts: readonly ClientPrompt[],
  cases: readonly ClientCase[],
): Promise<Float32Array[][]> {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-clients-'));
  try {
    const file = join(folder, 'prompts.json');
    writeFileSync(file, JSON.stringify(prompts));
    const outputs = cases.map((_, i) => join(folder, `${i}.safetensors`));
    const args = cases.flatMap(({ model, adapter }, i) => [
      '--case',
      outputs[i]!,
      model,
      ...(adapter ? [adapter] : []),
    ]);
    await promisify(execFile)(interpreter, [script, '--prompts', file, ...args], { maxBuffer: 1 << 26 });
    return await Promise.all(outputs.map((path) => logitsOf(path, prompts.length)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function logitsOf(path: string, count: number): Promise<Float32Array[]> {
  const file = await openSafetensors(bytesSource(new Uint8Array(readFileSync(path)), path));
  return Promise.all(
    Array.from({ length: count }, async (_, i) => new Float32Array((await file.read(String(i))).slice().buffer)),
  );
}

/** The largest difference between two lists of logits. */
export function farthest(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  const rows = a.map((row, i) => row.reduce((worst, x, j) => Math.max(worst, Math.abs(x - b[i]![j]!)), 0));
  return a.length === b.length ? Math.max(...rows) : Number.NaN;
}
