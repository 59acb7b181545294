import { type Backend, Device, LowrankError, type Tensor } from '@lowrank/tensor';
import type { ContenderFacts } from '../record.ts';
import { type Built, Data, type OpCase } from './case.ts';
import { differenceAtShape } from './proof.ts';

/** A case that is ready to run on one contender. Its operands are more than caches hold, and each run takes the next set. */
export interface Prepared {
  /** Enqueues `calls` calls of the op. */
  run(): void | Promise<void>;
  readonly calls: number;
  /** Milliseconds; less is a part of the clock's, the scheduler's and the synchronization's noise: runs are gathered until it is reached. */
  readonly shortestSample: number;
  synchronize(): Promise<void>;
  dispose(): void;
}

/** What is measured: a backend of ours or of the user's, or another library. */
export interface Contender {
  readonly facts: ContenderFacts;
  /** Its device runs apart from the host. */
  readonly apart: boolean;
  /** Versions that the records of a peer carry. */
  readonly packages?: Readonly<Record<string, string>>;
  /** Has it such an op? A contender without the question has all. */
  takes?(op: OpCase): boolean;
  /** Throws `Refused` where it cannot take this call. */
  prepare(op: OpCase, seed: number): Promise<Prepared>;
  /** Results of the small form of a case. */
  results(op: OpCase, seed: number): Promise<readonly Float64Array[]>;
  close(): Promise<void>;
}

/** A contender cannot run a case: a fact, not a failure. */
export class Refused extends Error {}

/** Larger than last-level caches (a GPU's: 60 MB and more); operand sets rotate until so many bytes have passed. */
const flushed = { host: { bytes: 64 * 2 ** 20, sets: 48 }, device: { bytes: 256 * 2 ** 20, sets: 256 } } as const;

export class BackendContender implements Contender {
  readonly facts: ContenderFacts;
  readonly apart: boolean;
  readonly device: Device;

  constructor(backend: Backend, facts: ContenderFacts) {
    this.device = new Device(backend);
    this.facts = facts;
    this.apart = backend.caps.asynchronous;
  }

  #check({ dtype }: OpCase): void {
    const { dtypes, device } = this.device.backend.caps;
    if (!dtypes[dtype].compute) throw new Refused(`${device} does not compute in ${dtype}`);
  }

  async prepare(op: OpCase, seed: number): Promise<Prepared> {
    this.#check(op);
    const { device, apart } = this;
    const flush = flushed[apart ? 'device' : 'host'];
    const sets: Disposable[][] = [];
    const built: Built[] = [];
    const runs: (() => void | Promise<void>)[] = [];
    const dispose = () => {
      for (const held of sets.splice(0).reverse()) for (const item of held) item[Symbol.dispose]();
      device.pool.trim();
    };
    try {
      let wanted = Math.max(1, Math.min(flush.sets, Math.ceil(flush.bytes / Math.max(op.work.bytes ?? 0, 1))));
      let waits = false;
      for (let i = 0; i < wanted; i++) {
        const one = await op.build(new Data(device, { seed: seed + i }), op.sizes);
        sets.push([...one.held]);
        built.push(one);
        if (i === 0) {
          const { milliseconds, waited } = await timeOnce(device, one);
          waits = waited;
          // a slow call passes the caches by itself, and operands take time to make
          wanted = Math.min(wanted, Math.max(2, Math.ceil(longestLap / milliseconds)));
        }
        if (op.recorded && !apart) {
          const recording = device.record(() => one.run() as readonly Tensor[]);
          sets.push([...recording.result, recording]);
          runs.push(() => recording.replay());
        } else
          runs.push(() => {
            const out = one.run();
            if ('then' in out) return out.then(drop);
            drop(out);
          });
      }
      const lap = apart && !waits && op.recorded !== false ? recordedLap(device, built) : undefined;
      if (lap) {
        sets.push([lap]);
        const synchronize = () => device.synchronize();
        return { run: () => lap.replay(), calls: built.length, shortestSample: 10, synchronize, dispose };
      }
    } catch (error) {
      dispose();
      throw lacks(error) ? new Refused((error as LowrankError).message) : error;
    }
    let next = 0;
    return {
      run: () => runs[next++ % runs.length]!(),
      calls: 1,
      shortestSample: apart ? 10 : 2,
      synchronize: () => device.synchronize(),
      dispose,
    };
  }

  async results(op: OpCase, seed: number): Promise<Float64Array[]> {
    this.#check(op);
    const { device } = this;
    let built: Built | undefined;
    try {
      built = await op.build(new Data(device, { seed, host: true }), op.small);
      if (op.recorded) {
        using recording = device.record(() => built!.run() as readonly Tensor[]);
        recording.replay();
        return await read(recording.result);
      }
      return await read(await built.run());
    } catch (error) {
      throw lacks(error) ? new Refused((error as LowrankError).message) : error;
    } finally {
      for (const item of built?.held ?? []) item[Symbol.dispose]();
    }
  }

  /** As `differenceAtShape`. Throws `Refused` where a call is refused. */
  async difference(op: OpCase, seed: number): Promise<number | undefined> {
    try {
      return await differenceAtShape(this.device, op, seed);
    } catch (error) {
      throw lacks(error) ? new Refused((error as LowrankError).message) : error;
    } finally {
      this.device.pool.trim();
    }
  }

  async close(): Promise<void> {
    await this.device.close();
  }
}

/** Milliseconds of calls after which operands may come again. */
const longestLap = 200;

/** Runs a call twice, the second time by the clock; tells whether it waits for the host in the middle. */
async function timeOnce(device: Device, { run }: Built): Promise<{ milliseconds: number; waited: boolean }> {
  let waited = false;
  let milliseconds = 0;
  for (let i = 0; i < 2; i++) {
    const start = performance.now();
    const out = run();
    waited = 'then' in out;
    drop(await out);
    await device.synchronize();
    milliseconds = performance.now() - start;
  }
  return { milliseconds, waited };
}

/**
 * One recording of a call on each set of operands, so that a replay is the device's work alone. Undefined where the device has no recorder,
 * or the op writes from the host in the middle.
 */
function recordedLap(device: Device, built: readonly Built[]) {
  if (!device.backend.record) return undefined;
  try {
    return device.record((): void => {
      for (const { run } of built) drop(run() as readonly Tensor[]);
    });
  } catch (error) {
    if (error instanceof LowrankError) return undefined;
    throw error;
  }
}

/** A backend may leave out what primitives cannot give. */
const lacks = (error: unknown) => error instanceof LowrankError && /has no kernel/.test(error.rule);

function drop(tensors: readonly Tensor[]): void {
  for (const t of tensors) t.dispose();
}

async function read(tensors: readonly Tensor[]): Promise<Float64Array[]> {
  try {
    return await Promise.all(tensors.map(async (t) => Float64Array.from(await t.toArray())));
  } finally {
    drop(tensors);
  }
}
