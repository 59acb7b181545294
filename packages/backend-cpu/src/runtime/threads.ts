import { LowrankError } from '@lowrank/kernels';
import type { KernelModule } from './module.ts';
import { startWorker, type WorkerHandle } from './workers.ts';

/**
 * The control block: sixteen words, then the arguments of the job as f64.
 * 0 generation · 1 kernel · 2 arguments · 3 chunks · 4 units · 5 units a chunk · 6 chunks done · 7 the main thread waits · 8 a chunk failed ·
 * 9 stop · 12–13 the ticket, generation << 32 | next chunk, from which threads claim.
 * A thread that wakes late finds another generation in the ticket and takes nothing, so nobody waits for it.
 */
const GENERATION = 0;
const DONE = 6;
const WAITING = 7;
const FAILED = 8;
const STOP = 9;
const TICKET = 12;

/** How often a thread looks before it sleeps: about 0.1 ms, longer than the gap between two regions of a step. */
const SPINS = 20_000;

/** Threads beside the main one, over one shared memory. */
export class Threads {
  readonly #words: Int32Array;
  readonly #numbers: Float64Array;
  readonly #tickets: BigInt64Array;
  readonly #handles: WorkerHandle[] = [];
  readonly #claim: (ticket: number, generation: number, chunks: number) => number;
  readonly #ticketPointer: number;
  #generation = 0;
  #canWait = true;

  constructor(
    memory: WebAssembly.Memory,
    control: number,
    claim: (ticket: number, generation: number, chunks: number) => number,
  ) {
    this.#words = new Int32Array(memory.buffer, control, 16);
    this.#numbers = new Float64Array(memory.buffer, control + 64, 64);
    this.#tickets = new BigInt64Array(memory.buffer, control + TICKET * 4, 1);
    this.#claim = claim;
    this.#ticketPointer = control + TICKET * 4;
    try {
      // Refused on the main thread of a page, which then spins.
      Atomics.wait(this.#words, STOP, 0, 0);
    } catch {
      this.#canWait = false;
    }
  }

  /** Threads that compute, the main one included. */
  get count(): number {
    return this.#handles.length + 1;
  }

  /** Starts one more thread; resolves when it waits for work. */
  async add(
    kernels: KernelModule,
    memory: WebAssembly.Memory,
    control: number,
    scratch: number,
    names: readonly string[],
  ): Promise<void> {
    this.#handles.push(await startWorker({ module: kernels.module, memory, control, scratch, names, spins: SPINS }));
  }

  /**
   * Runs `kernel` (number `id`) over units cut into chunks of `grain`, the main thread taking part. Returns when all chunks are done.
   */
  run(id: number, kernel: (...args: number[]) => void, args: readonly number[], units: number, grain: number): void {
    const words = this.#words;
    const chunks = Math.ceil(units / grain);
    const generation = (this.#generation = (this.#generation + 1) | 0);
    // Closed first, so that a late thread of the job before cannot claim while the arguments change.
    Atomics.store(this.#tickets, 0, (BigInt(generation) << 32n) | 0xffffffffn);
    words[1] = id;
    words[2] = args.length;
    words[3] = chunks;
    words[4] = units;
    words[5] = grain;
    this.#numbers.set(args);
    Atomics.store(words, DONE, 0);
    Atomics.store(words, FAILED, 0);
    Atomics.store(this.#tickets, 0, BigInt(generation) << 32n);
    Atomics.store(words, GENERATION, generation);
    Atomics.notify(words, GENERATION);
    let failure: unknown;
    for (;;) {
      const chunk = this.#claim(this.#ticketPointer, generation, chunks);
      if (chunk < 0) break;
      try {
        kernel(...args, chunk * grain, Math.min(units, (chunk + 1) * grain));
      } catch (error) {
        failure ??= error;
      }
      Atomics.add(words, DONE, 1);
    }
    this.#join(chunks);
    if (failure) throw failure;
    if (Atomics.load(words, FAILED))
      throw new LowrankError('backend-cpu', 'a kernel trapped in a worker thread', `kernel ${id}`);
  }

  #join(chunks: number): void {
    const words = this.#words;
    for (let spin = 0; ; spin++) {
      const done = Atomics.load(words, DONE);
      if (done === chunks) return;
      if (spin < SPINS || !this.#canWait) continue;
      Atomics.store(words, WAITING, 1);
      Atomics.wait(words, DONE, done, 1);
      Atomics.store(words, WAITING, 0);
    }
  }

  async close(): Promise<void> {
    Atomics.store(this.#words, STOP, 1);
    Atomics.add(this.#words, GENERATION, 1);
    Atomics.notify(this.#words, GENERATION);
    await Promise.all(this.#handles.splice(0).map((h) => h.stop()));
  }
}
