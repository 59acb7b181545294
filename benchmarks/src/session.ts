import { environment } from './environment.ts';
import type { Options } from './options.ts';
import type { BenchRecord, ContenderFacts, Measured, Missed } from './record.ts';
import { schemaVersion } from './record.ts';
import { summarize } from './statistics.ts';

/** One run of the command: what every record of it carries, where records go, what went wrong. */
export class Session {
  readonly options: Options;
  readonly signal: AbortSignal;
  readonly records: BenchRecord[] = [];
  readonly #run: string;
  readonly #date = new Date().toISOString();
  readonly #write: (record: BenchRecord) => void;
  readonly #say: (text: string) => void;

  constructor(
    options: Options,
    hooks: { signal: AbortSignal; write: (record: BenchRecord) => void; say: (text: string) => void },
  ) {
    this.options = options;
    this.signal = hooks.signal;
    this.#write = hooks.write;
    this.#say = hooks.say;
    this.#run = `${this.#date}-${process.pid}`;
  }

  say(text: string): void {
    this.#say(text);
  }

  #shared(suite: BenchRecord['suite'], name: string, contender: ContenderFacts, packages: Record<string, string> = {}) {
    const facts = environment();
    return {
      schema: schemaVersion,
      run: this.#run,
      date: this.#date,
      command: this.options.command,
      seed: this.options.seed,
      suite,
      case: name,
      contender,
      environment: { ...facts, packages: { ...facts.packages, ...packages } },
    } as const;
  }

  /** Keeps a measurement. */
  add(
    suite: BenchRecord['suite'],
    name: string,
    contender: ContenderFacts,
    result: Pick<Measured, 'samples' | 'cpuSamples' | 'work' | 'ceiling' | 'figures' | 'notes'>,
    packages?: Record<string, string>,
  ): Measured {
    const record: Measured = {
      ...this.#shared(suite, name, contender, packages),
      status: 'ok',
      ...summarize(result.samples),
      ...result,
    };
    this.#keep(record);
    return record;
  }

  /** Keeps why there is none. */
  miss(
    suite: BenchRecord['suite'],
    name: string,
    contender: ContenderFacts,
    status: Missed['status'],
    reason: string,
  ): void {
    this.#keep({ ...this.#shared(suite, name, contender), status, reason });
  }

  #keep(record: BenchRecord): void {
    this.records.push(record);
    this.#write(record);
  }

  /** Something is wrong: a backend that does not load, crashes, or gives wrong results. */
  get failed(): boolean {
    return this.records.some((r) => r.status === 'wrong' || r.status === 'failed');
  }
}
