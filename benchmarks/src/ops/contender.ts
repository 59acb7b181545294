import { type Backend, Device, LowrankError, type Tensor } from '@lowrank/tensor';
import type { ContenderFacts } from '../record.ts';
import { type Built, Data, type OpCase } from './case.ts';

/** A case that is ready to run on one contender. Its operands are more than caches hold, and each run takes the next set. */
export interface Prepared {
  /** Enqueues one run. */
  run(): void | Promise<void>;
  synchronize(): Promise<void>;
  dispose(): void;
}

/** What is measured: a backend of ours or of the user's, or another library. */
export interface Contender {
  readonly facts: ContenderFacts;
  /** Undefined where it has no such op. Throws `Refused` where it has, but cannot take this call. */
  prepare(op: OpCase, seed: number): Promise<Prepared | undefined>;
  /** Results of the small form of a case. */
  results(op: OpCase, seed: number): Promise<readonly Float64Array[]>;
  close(): Promise<void>;
}

/** A contender cannot run a case: a fact, not a failure. */
export class Refused extends Error {}

/** Larger than last-level caches; operand sets rotate until so many bytes have passed. */
const flushBytes = 64 * 2 ** 20;
const mostSets = 48;

export class BackendContender implements Contender {
  readonly facts: ContenderFacts;
  readonly device: Device;

  constructor(backend: Backend, facts: ContenderFacts) {
    this.device = new Device(backend);
    this.facts = facts;
  }

  #check({ dtype }: OpCase): void {
    const { dtypes, device } = this.device.backend.caps;
    if (!dtypes[dtype].compute) throw new Refused(`${device} does not compute in ${dtype}`);
  }

  async prepare(op: OpCase, seed: number): Promise<Prepared> {
    this.#check(op);
    const { device } = this;
    const sets: Disposable[][] = [];
    const runs: (() => void | Promise<void>)[] = [];
    const dispose = () => {
      for (const held of sets.splice(0).reverse()) for (const item of held) item[Symbol.dispose]();
      device.pool.trim();
    };
    try {
      const wanted = Math.ceil(flushBytes / Math.max(op.work.bytes ?? 0, 1));
      for (let i = 0; i < Math.max(1, Math.min(mostSets, wanted)); i++) {
        const built = await op.build(new Data(device, { seed: seed + i }), op.sizes);
        const held = [...built.held];
        sets.push(held);
        if (op.recorded) {
          const recording = device.record(() => built.run() as readonly Tensor[]);
          held.unshift(recording, ...recording.result);
          runs.push(() => recording.replay());
        } else
          runs.push(() => {
            const out = built.run();
            if ('then' in out) return out.then(drop);
            drop(out);
          });
      }
    } catch (error) {
      dispose();
      throw lacks(error) ? new Refused((error as LowrankError).message) : error;
    }
    let next = 0;
    return {
      run: () => runs[next++ % runs.length]!(),
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

  async close(): Promise<void> {
    await this.device.close();
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
