/** The two clients that same-numbers.ts compares, `lowrank` and PEFT, as programs within a part's time; and the lines that it leaves. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** Beside it: lowrank.mjs, smollm2_train.py, facts.json, fixtures/. */
export const here = import.meta.dirname;

/** What a client says of a run. */
export interface Trained {
  readonly losses: readonly number[];
  /** Labels that count, by step. */
  readonly tokens: readonly number[];
  /** Of the loop alone. */
  readonly seconds: number;
  /** Of the loop, padding left out. */
  readonly inputTokens: number;
  /** Of device memory, from loading's end on with PEFT, from the start with lowrank. */
  readonly peakBytes?: number;
  readonly evalBefore?: number;
  readonly evalAfter?: number;
  readonly evalTokens?: number;
  readonly command: string;
}

export interface PeftTrained extends Trained {
  readonly versions: Readonly<Record<string, string | null>>;
}

/** The last words of a program that failed. */
function lastWords(text: string, lines = 3): string {
  return text.trim().split('\n').slice(-lines).join(' | ').slice(-400);
}

/** Arguments without the folders of this machine. */
function shown(args: readonly string[]): string {
  const quoted = (word: string) => (/[{}\\ ]/.test(word) ? `'${word}'` : word);
  return args.map((a) => quoted(a.startsWith('/') ? basename(a) : a)).join(' ');
}

function facts(gpu: boolean) {
  const { commit } = JSON.parse(readFileSync(join(here, 'facts.json'), 'utf8')) as { commit: string };
  const stamp = { commit, at: new Date().toISOString() };
  const asked = spawnSync('nvidia-smi', ['--query-gpu=name,driver_version', '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  const [name, driver] = (asked.stdout ?? '').split('\n')[0]!.split(', ');
  if (gpu && name && driver) return { ...stamp, gpu: name, driver };
  return { ...stamp, gpu: `${cpus().length} cores, ${cpus()[0]!.model}`, driver: `Node.js ${process.version}` };
}

/** A part with its time and its file of lines. */
export class Part {
  readonly name: string;
  /** Folder of the clients, where they keep adapters and results. */
  readonly work: string;
  failed = 0;
  readonly #end: number;
  readonly #file: string;
  readonly #stamp: ReturnType<typeof facts>;

  constructor(
    name: string,
    work: string,
    options: { readonly file: string; readonly seconds: number; readonly gpu: boolean },
  ) {
    this.name = name;
    this.work = work;
    this.#file = options.file;
    this.#end = performance.now() + 1000 * options.seconds;
    this.#stamp = facts(options.gpu);
  }

  /** Adds a line, and says it in short. */
  line(value: Readonly<Record<string, unknown>>, words: string): void {
    if (value.status === 'failed') this.failed++;
    appendFileSync(this.#file, `${JSON.stringify({ ...value, ...this.#stamp })}\n`);
    console.log(`${this.name}: ${words}`);
  }

  /** Something that is not here or did not go. */
  miss(words: string): void {
    this.failed++;
    console.log(`${this.name}: ${words}`);
  }

  /** Runs a body; what it throws is said, and the rest of the part goes on. */
  attempt<T>(what: string, body: () => T): T | undefined {
    try {
      return body();
    } catch (error) {
      this.miss(`${what}: ${(error as Error).message}`);
      return undefined;
    }
  }

  /** Ends with the part's time. Its words are added to FILE.log. */
  run(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const timeout = Math.floor(this.#end - performance.now());
    if (timeout < 1000) throw new Error('no time is left for it');
    const done = spawnSync(program, args, {
      encoding: 'utf8',
      cwd: this.work,
      env: { ...process.env, ...env },
      maxBuffer: 1 << 28,
      timeout,
      killSignal: 'SIGKILL',
    });
    const { stdout, stderr, status, signal } = done;
    appendFileSync(`${this.#file}.log`, `$ ${basename(program)} ${shown(args)}\n${stderr}\n`);
    const reason = signal
      ? `stopped after ${Math.round(timeout / 1000)} s`
      : `exit code ${status}: ${lastWords(stderr)}`;
    return { stdout, stderr, status, reason: done.error && !signal ? done.error.message : reason };
  }

  /** The JSON lines of a command. Throws where it fails. */
  lowrank(args: readonly string[]): Record<string, unknown>[] {
    const { stdout, status, reason } = this.run(process.execPath, [join(here, 'lowrank.mjs'), ...args, '--json']);
    if (status !== 0) throw new Error(reason);
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }

  /** `lowrank train`. Throws where it fails. */
  train(args: readonly string[]): Trained {
    const lines = this.lowrank(['train', ...args]);
    const steps = lines.filter((l) => l.event === 'step');
    const { seconds, peakMemoryBytes } = steps.at(-1) as { seconds: number; peakMemoryBytes: number };
    const evaluation = lines.findLast((l) => l.event === 'evaluation') as { loss: number; tokens: number } | undefined;
    return {
      losses: steps.map((l) => l.loss as number),
      tokens: steps.map((l) => l.tokens as number),
      inputTokens: steps.reduce((sum, l) => sum + (l.inputTokens as number), 0),
      seconds,
      peakBytes: peakMemoryBytes,
      ...(evaluation ? { evalAfter: evaluation.loss, evalTokens: evaluation.tokens } : {}),
      command: `lowrank train ${shown(args)}`,
    };
  }

  /** PEFT's runs by smollm2_train.py, in one process: what each says, or why it says nothing. `data` holds gsm8k/train.jsonl. */
  peft(
    runs: Readonly<Record<string, readonly string[]>>,
    models: string,
    shared: string,
  ): Map<string, PeftTrained | Error> {
    const output = (name: string) => join(this.work, `peft-${name}`);
    const entries = Object.entries(runs);
    const words = entries.flatMap(([name, args], i) => [...(i ? ['--then'] : []), '--output', output(name), ...args]);
    const python = process.env.LOWRANK_PYTHON ?? 'python3';
    const env = { LOWRANK_CACHE: dirname(models), LOWRANK_SHARED: shared };
    let reason: string;
    let stderr = '';
    try {
      ({ reason, stderr } = this.run(python, [join(here, 'smollm2_train.py'), ...words], env));
    } catch (error) {
      reason = (error as Error).message;
    }
    const results = new Map<string, PeftTrained | Error>();
    for (const [name, args] of entries) {
      const result = join(output(name), 'result.json');
      const own = stderr.split('\n').find((line) => line.startsWith(`peft-${name}: `));
      if (!existsSync(result)) results.set(name, new Error(own ?? reason));
      else {
        const said = JSON.parse(readFileSync(result, 'utf8')) as PeftTrained;
        results.set(name, { ...said, command: `smollm2_train.py ${shown(args)}` });
      }
    }
    return results;
  }
}
