import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, vi } from 'vitest';
import { lowrank } from '../src/lowrank.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

export interface Outcome {
  /** Exit code; null where a signal ended the process. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output's lines as JSON. */
  lines(): Record<string, unknown>[];
}

export interface Running {
  readonly pid: number;
  readonly done: Promise<Outcome>;
  kill(signal: NodeJS.Signals): void;
}

export interface SpawnOptions {
  /** Called with everything on standard output so far. */
  readonly onOutput?: (text: string) => void;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Starts the real command line, on its sources. */
export function start(args: readonly string[], { onOutput, env, cwd }: SpawnOptions = {}): Running {
  const child = spawn(process.execPath, ['--conditions=source', main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...env },
    ...(cwd ? { cwd } : {}),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    onOutput?.(stdout);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const done = new Promise<Outcome>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) =>
      resolve({
        code,
        stdout,
        stderr,
        lines: () => linesOf(stdout),
      }),
    );
  });
  return { pid: child.pid!, done, kill: (signal) => void child.kill(signal) };
}

/** Runs the real command line in a process of its own. */
export function run(...args: string[]): Promise<Outcome> {
  return start(args).done;
}

/** Runs a command line in this process: what it says and the exit code are the same, and starting takes no time. One at a time. */
export async function call(...args: string[]): Promise<Outcome> {
  const said = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      said[name] += text;
      return true;
    }),
  );
  try {
    const code = await lowrank(args);
    return { code, ...said, lines: () => linesOf(said.stdout) };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const linesOf = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

/** A folder that goes when the file's tests are done. */
export function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'lowrank-cli-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const bundled = fileURLToPath(new URL('../../../bundled', import.meta.url));

/** The first records of the bundled instruction set, as a file. */
export function fewRecords(folder: string, count: number, name = 'few.jsonl', from = 'train'): string {
  const lines = readFileSync(join(bundled, `instructions/${from}.jsonl`), 'utf8').split('\n');
  const path = join(folder, name);
  writeFileSync(path, `${lines.slice(0, count).join('\n')}\n`);
  return path;
}

/** Options of a run that takes a second or so. */
export function shortRun(data: string, output: string, ...more: string[]): string[] {
  const few = more.includes('--target-modules') ? [] : ['--target-modules', 'q_proj,v_proj'];
  const options = ['--backend', 'cpu', '--threads', '1', '--batch-size', '2', '--samples', '0', '--r', '4', ...few];
  return ['train', '--model', 'bundled', '--data', data, '--output', output, ...options, '--max-steps', '2', ...more];
}
