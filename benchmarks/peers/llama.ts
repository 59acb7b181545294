/**
 * llama.cpp's finetune (examples/training/finetune.cpp) beside full training. It trains all weights of an f32 GGUF file, and tells of its
 * progress on standard error: `train: [===> ] data=0000012/0000040 loss=2.1±0.1 acc=… t=00:00:12 ETA=…`, a sample of the context's length each.
 * LOWRANK_LLAMA_FINETUNE names the program, LOWRANK_LLAMA_MODEL the file, which must have the shapes of the case.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { LowrankError } from '@lowrank/tensor';
import type { Message } from '../src/jobs/protocol.ts';
import type { ContenderFacts } from '../src/record.ts';
import { type ShapeName, shapeNames } from '../src/shapes.ts';
import type { StepProcess, StepRunner } from '../src/suites/train.ts';
import type { Peers } from './python.ts';

const facts: ContenderFacts = {
  name: 'llama.cpp finetune',
  kind: 'peer',
  device: 'llama.cpp',
  driver: null,
  features: [],
};

/** Samples done so far, as the progress bar says. */
function samplesDone(text: string): number | undefined {
  const last = text.match(/train: \[[^\]]*\] data=(\d+)\/\d+/g)?.at(-1);
  return last === undefined ? undefined : Number(/data=(\d+)/.exec(last)![1]);
}

/** What Linux tells of a process: processor time so far (ticks of 10 ms), and the most memory that it had resident. */
function processFacts(pid: number): { cpuMilliseconds: number; peakResidentBytes: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [user, system] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
      .map(Number);
    const high = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return { cpuMilliseconds: 10 * (user! + system!), peakResidentBytes: 1024 * Number(high?.[1] ?? 0) };
  } catch {
    return undefined;
  }
}

/** A process that cannot be asked for a step: it is stopped between them, and a step is the time until its samples are done. */
class Finetune implements StepProcess {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #batch: number;
  readonly #exit: Promise<string>;
  #text = '';
  #done = 0;
  #at = performance.now();
  #wake: () => void = () => {};
  #ended: string | undefined;

  constructor(
    program: string,
    model: string,
    c: { batch: number; length: number; threads?: number | undefined },
    signal?: AbortSignal,
  ) {
    this.#batch = c.batch;
    this.#folder = mkdtempSync(join(tmpdir(), 'lowrank-llama-'));
    const data = join(this.#folder, 'data.txt');
    // words of about a token each, for more samples than are asked for
    writeFileSync(data, Array.from({ length: 64 * c.batch * c.length }, (_, i) => ` ${(i * 7919) % 9973}`).join(''));
    const size = String(c.batch * c.length);
    const threads = c.threads ? ['-t', String(c.threads)] : [];
    this.#child = spawn(
      program,
      [
        '--file',
        data,
        '--model',
        model,
        '-c',
        String(c.length),
        '-b',
        size,
        '-ub',
        size,
        '-ngl',
        '999',
        '-epochs',
        '1',
        '-o',
        join(this.#folder, 'out.gguf'),
        ...threads,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    signal?.addEventListener('abort', () => this.#child.kill('SIGKILL'), { once: true });
    this.#child.stderr!.setEncoding('utf8');
    this.#child.stderr!.on('data', (part: string) => {
      this.#text = (this.#text + part).slice(-4000);
      this.#wake();
    });
    this.#exit = new Promise((resolve) => {
      const end = (how: string) => {
        this.#ended = how;
        this.#wake();
        resolve(how);
      };
      this.#child.on('error', (error) => end(error.message));
      this.#child.on('exit', (code, by) => end(by ? `killed by ${by}` : `exit code ${code}`));
    });
  }

  ask(): void {}
  finish(): void {}

  #facts() {
    return this.#child.pid === undefined ? undefined : processFacts(this.#child.pid);
  }

  /** Lets it go on until so many more samples are done; gives a step's milliseconds. */
  async #advance(samples: number): Promise<number> {
    this.#at = performance.now();
    this.#child.kill('SIGCONT');
    for (;;) {
      const done = samplesDone(this.#text) ?? 0;
      if (done >= this.#done + samples) {
        const ms = ((performance.now() - this.#at) * samples) / (done - this.#done);
        this.#child.kill('SIGSTOP'); // others are timed now
        this.#done = done;
        return ms;
      }
      if (this.#ended) {
        const last = this.#text
          .trim()
          .split(/[\r\n]/)
          .slice(-2)
          .join(' ');
        throw new LowrankError('bench', 'a runner ended before its work', `${facts.name}: ${this.#ended}: ${last}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async expect<E extends Message['event']>(event: E): Promise<Extract<Message, { event: E }>> {
    let message: Message;
    if (event === 'ready') {
      await this.#advance(2 * this.#batch); // the first two are warm-up, as everywhere
      message = { event: 'ready', device: facts.device, driver: null, features: [], packages: {} };
    } else if (event === 'step') {
      const before = this.#facts()?.cpuMilliseconds ?? 0;
      const milliseconds = await this.#advance(this.#batch);
      message = { event: 'step', milliseconds, cpuMilliseconds: (this.#facts()?.cpuMilliseconds ?? 0) - before };
    } else {
      const peak = this.#facts()?.peakResidentBytes;
      message = {
        event: 'done',
        figures: peak ? { peakResidentBytes: peak } : {},
        notes: ['its own data loader and optimizer; tokens counted as context times samples'],
      };
    }
    return message as Extract<Message, { event: E }>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exit;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Shapes are told by the file's name: `smollm2-135m-f32.gguf`. */
const shapeOfFile = (path: string): ShapeName | undefined =>
  shapeNames.find((name) => basename(path).toLowerCase().includes(name));

export function llamaPeer(): Peers<StepRunner> {
  const program = process.env.LOWRANK_LLAMA_FINETUNE;
  const model = process.env.LOWRANK_LLAMA_MODEL;
  const absent = (reason: string) => ({ found: [], absent: [{ facts, reason }] });
  if (!program || !model)
    return absent(
      'no program is named. Build it: cmake -B build && cmake --build build --target llama-finetune in llama.cpp, then LOWRANK_LLAMA_FINETUNE=build/bin/llama-finetune LOWRANK_LLAMA_MODEL=smollm2-135m-f32.gguf (llama-quantize --allow-requantize makes F32 of any GGUF)',
    );
  for (const path of [program, model]) if (!existsSync(path)) return absent(`${path} is not there`);
  const shape = shapeOfFile(model);
  if (!shape) return absent(`${model}: its name must say which shapes it has: ${shapeNames.join(', ')}`);
  return {
    absent: [],
    found: [
      {
        facts,
        dtype: 'f32',
        takes: (c) => c.method === 'full' && c.shape === shape && !c.layers && c.record !== 'off' && !c.callByCall,
        start: (job, signal) => new Finetune(program, model, job, signal),
      },
    ],
  };
}
