import { environment, isSoftware } from './environment.ts';
import { HostWatch } from './host.ts';
import type { Options } from './options.ts';
import type { BenchRecord, CaseShape, ContenderFacts, Mark, Measured, Missed } from './record.ts';
import { busyShare, schemaVersion } from './record.ts';
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
  readonly #host = new HostWatch();
  #others = 0;
  #warned = false;

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

  /** Looks at the machine while nothing of this run works: what others take of it is told in the records that follow. */
  async look(): Promise<void> {
    this.#others = await this.#host.look(300);
    this.#warn();
  }

  /** What others take is told from here on, until `lookBack`. */
  lookFrom(): void {
    this.#host.othersShare();
  }

  /** Looks at what others took while this process worked, and processes of its own for so many processor milliseconds. */
  lookBack(children = 0): void {
    this.#others = this.#host.othersShare(children);
    this.#warn();
  }

  #warn(): void {
    if (this.#warned || this.#others <= busyShare) return;
    this.#warned = true;
    this.say(
      `other programs take ${Math.round(100 * this.#others)} % of the cores: lines measured so are marked busy, and stay out of docs/benchmarks.md`,
    );
  }

  #marks(contender: ContenderFacts): Mark[] {
    return [
      ...(this.#others > busyShare ? (['busy'] as const) : []),
      ...(isSoftware(contender.device) ? (['software'] as const) : []),
    ];
  }

  #shared(
    suite: BenchRecord['suite'],
    name: string,
    contender: ContenderFacts,
    packages: Readonly<Record<string, string>> = {},
  ) {
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
      environment: { ...facts, othersShare: this.#others, packages: { ...facts.packages, ...packages } },
      marks: this.#marks(contender),
    } as const;
  }

  /** Keeps a measurement. */
  add(
    suite: BenchRecord['suite'],
    name: string,
    contender: ContenderFacts,
    result: Pick<Measured, 'samples' | 'cpuSamples' | 'work' | 'ceiling' | 'figures' | 'notes'>,
    more: { readonly packages?: Readonly<Record<string, string>>; readonly shape?: CaseShape } = {},
  ): Measured {
    const record: Measured = {
      ...this.#shared(suite, name, contender, more.packages),
      ...(more.shape ? { shape: more.shape } : {}),
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
