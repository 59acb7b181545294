import type { Prepared } from './ops/contender.ts';

export interface MeasureOptions {
  /** Seconds a contender spends on a case, warm-up aside. */
  readonly seconds: number;
  readonly minSamples: number;
  readonly maxSamples: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Timed {
  /** Milliseconds of one run, by the clock and by the processor time of this process. */
  readonly samples: readonly number[];
  readonly cpuSamples: readonly number[];
}

class Lane {
  readonly prepared: Prepared;
  readonly samples: number[] = [];
  readonly cpuSamples: number[] = [];
  repeats = 1;
  spent = 0;

  constructor(prepared: Prepared) {
    this.prepared = prepared;
  }

  async time(): Promise<{ ms: number; cpu: number }> {
    const before = process.cpuUsage();
    const start = performance.now();
    for (let i = 0; i < this.repeats; i++) {
      const waiting = this.prepared.run();
      if (waiting) await waiting;
    }
    await this.prepared.synchronize();
    const ms = performance.now() - start;
    const { user, system } = process.cpuUsage(before);
    return { ms, cpu: (user + system) / 1000 };
  }

  /** Compiles, fills pools and caches, and finds how many runs make a sample. */
  async warmUp(): Promise<void> {
    await this.time();
    const { ms } = await this.time();
    this.repeats = Math.max(1, Math.min(1000, Math.ceil(this.prepared.shortestSample / Math.max(ms, 1e-3))));
    if (this.repeats > 1) await this.time();
  }

  async sample(): Promise<void> {
    const { ms, cpu } = await this.time();
    this.spent += ms;
    const calls = this.repeats * this.prepared.calls;
    this.samples.push(ms / calls);
    this.cpuSamples.push(cpu / calls);
  }
}

/** How many times its own seconds a contender takes part beside others. */
const patience = 4;

/**
 * Times contenders in turns, so that whatever else the machine does falls on all of them: a round has a sample of each, in alternating
 * order. Ends when everyone has spent its time and has enough samples.
 */
export async function measure(prepared: readonly Prepared[], options: MeasureOptions): Promise<Timed[]> {
  const { seconds, minSamples, maxSamples, signal } = options;
  const lanes = prepared.map((p) => new Lane(p));
  for (const lane of lanes) await lane.warmUp();
  const open = (lane: Lane) =>
    lane.samples.length < minSamples || (lane.spent < seconds * 1000 && lane.samples.length < maxSamples);
  for (let round = 0; lanes.some(open); round++) {
    signal?.throwIfAborted();
    // everyone takes part until the last one has enough, so that all samples have a neighbour; but one that is far slower need not wait for all
    for (const lane of round % 2 ? [...lanes].reverse() : lanes)
      if (lane.samples.length < maxSamples && (open(lane) || lane.spent < patience * seconds * 1000))
        await lane.sample();
  }
  return lanes.map(({ samples, cpuSamples }) => ({ samples, cpuSamples }));
}
