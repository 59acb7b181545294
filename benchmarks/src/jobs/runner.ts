import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { LowrankError } from '@lowrank/tensor';
import { type Message, message } from './protocol.ts';

/** A process that does a job and tells of it line by line. */
export class Runner implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #exit: Promise<string>;
  readonly #name: string;
  readonly #signal: AbortSignal | undefined;
  readonly #kill = () => void this.#child.kill('SIGKILL');
  #errors = '';

  constructor(
    name: string,
    command: string,
    args: readonly string[],
    options: { readonly env?: NodeJS.ProcessEnv; readonly signal?: AbortSignal } = {},
  ) {
    this.#name = name;
    options.signal?.addEventListener('abort', this.#kill, { once: true });
    this.#signal = options.signal;
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
    this.#child.stderr!.on('data', (part: Buffer) => {
      this.#errors = (this.#errors + part).slice(-4000);
    });
    this.#child.stdin!.on('error', () => {}); // it ended before it was asked: its exit says why
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    this.#exit = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message));
      this.#child.on('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`));
    });
  }

  /** Asks a step runner for one more. */
  ask(): void {
    this.#child.stdin!.write('step\n');
  }

  finish(): void {
    this.#child.stdin!.end();
  }

  /** The next message; throws where the process fails or ends. */
  async next(): Promise<Message> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        const end = await this.#exit;
        const last = this.#errors.trim().split('\n').slice(-3).join(' ');
        throw new LowrankError(
          'bench',
          'a runner ended before its work',
          `${this.#name}: ${end}${last ? `: ${last}` : ''}`,
        );
      }
      if (!value.startsWith('{')) continue; // libraries talk
      const parsed = message.safeParse(JSON.parse(value));
      if (!parsed.success)
        throw new LowrankError('bench', 'a runner said what it must not', `${this.#name}: ${value.slice(0, 200)}`);
      if (parsed.data.event === 'failed')
        throw new LowrankError('bench', 'a runner failed', `${this.#name}: ${parsed.data.reason}`);
      return parsed.data;
    }
  }

  async expect<E extends Message['event']>(event: E): Promise<Extract<Message, { event: E }>> {
    const got = await this.next();
    if (got.event !== event)
      throw new LowrankError('bench', `a runner said ${got.event} where ${event} was due`, this.#name);
    return got as Extract<Message, { event: E }>;
  }

  /** Ends the process, if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#kill);
    this.#child.stdin!.end();
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    this.#child.kill('SIGTERM');
    await this.#exit;
    clearTimeout(late);
  }
}

/** The jobs of this folder; each is a program of its own. */
export type JobName = 'step-job' | 'load-job' | 'quality-job';

/** Starts a job on this Node: from the sources, or from the file beside this one where all was packed into single files. */
export function startJob(job: JobName, name: string, args: readonly string[], signal: AbortSignal | undefined): Runner {
  const sources = import.meta.filename.endsWith('.ts');
  const script = sources ? join(import.meta.dirname, `${job}.ts`) : join(dirname(import.meta.filename), `${job}.mjs`);
  return new Runner(name, process.execPath, [...(sources ? ['--conditions=source'] : []), script, ...args], {
    ...(signal ? { signal } : {}),
  });
}
