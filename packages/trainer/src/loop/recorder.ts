import { type Device, LowrankError, type Recording, type Scratch, scope } from '@lowrank/tensor';

interface Slot<I> {
  readonly inputs: I;
  recording: Recording<void> | undefined;
  runs: number;
  lastRun: number;
}

export interface RecorderOptions<I> {
  readonly device: Device;
  readonly record: boolean;
  /** Recordings kept at a time. */
  readonly limit?: number;
  /** The buffers that a shape's work reads. */
  readonly inputs: (key: string) => I;
}

/** A recording makes room for another shape's when it was not used for so many runs. */
const idleRuns = 32;
/** Shapes whose input buffers are kept. */
const maxSlots = 64;

/**
 * Runs device work that is a function of buffers alone: eagerly when a shape first comes (so that what is made once gets made), recorded
 * when it comes again, and from then on replayed. All three give the same bits. All shapes take turns in one piece of memory.
 */
export class Recorder<I extends Disposable> implements Disposable {
  readonly #options: RecorderOptions<I>;
  readonly #slots = new Map<string, Slot<I>>();
  #clock = 0;
  #scratch: Scratch;
  /** Why nothing is recorded, where the work cannot be. */
  refused: string | undefined;

  constructor(options: RecorderOptions<I>) {
    this.#options = options;
    this.#scratch = options.device.scratch(this.#forgetAll);
    options.device.pool.reclaimers.add(this.#forgetAll);
  }

  /** How many shapes are recorded now. */
  get recorded(): number {
    return [...this.#slots.values()].filter((s) => s.recording).length;
  }

  /** `write` fills the shape's inputs, `work` enqueues; it must return nothing and keep no tensor. */
  run(key: string, write: (inputs: I) => void, work: (inputs: I) => void): void {
    const slot = this.#slot(key);
    slot.runs++;
    slot.lastRun = ++this.#clock;
    write(slot.inputs);
    if (!slot.recording && slot.runs > 1 && this.#mayRecord()) this.#record(slot, work);
    if (slot.recording) slot.recording.replay();
    else this.#scratch.run(() => scope(() => work(slot.inputs)));
    // what the first run makes once (optimizer state, tables) keeps its place: from here on runs take turns elsewhere
    if (this.#scratch.occupied) this.#moveOn();
  }

  #moveOn(): void {
    this.#forgetAll();
    this.#scratch.dispose();
    this.#scratch = this.#options.device.scratch(this.#forgetAll);
  }

  #slot(key: string): Slot<I> {
    const there = this.#slots.get(key);
    if (there) return there;
    if (this.#slots.size >= maxSlots) {
      const [oldest] = [...this.#slots].sort((a, b) => a[1].lastRun - b[1].lastRun);
      this.#drop(oldest![0]);
    }
    const slot: Slot<I> = { inputs: this.#options.inputs(key), recording: undefined, runs: 0, lastRun: 0 };
    this.#slots.set(key, slot);
    return slot;
  }

  #mayRecord(): boolean {
    if (!this.#options.record || this.refused !== undefined) return false;
    const held = [...this.#slots.values()].filter((s) => s.recording).sort((a, b) => a.lastRun - b.lastRun);
    if (held.length < (this.#options.limit ?? 16)) return true;
    const [oldest] = held;
    if (!oldest || this.#clock - oldest.lastRun <= idleRuns) return false;
    this.#forget(oldest);
    return true;
  }

  #record(slot: Slot<I>, work: (inputs: I) => void): void {
    try {
      slot.recording = this.#options.device.record(() => {
        scope(() => work(slot.inputs));
      }, this.#scratch);
    } catch (error) {
      // work that writes host data, or has no room for memory of its own, runs as it is, and says so
      if (!(error instanceof LowrankError) || !['record', 'allocate'].includes(error.op)) throw error;
      this.refused = error.message;
    }
  }

  #forget(slot: Slot<I>): void {
    slot.recording?.dispose();
    slot.recording = undefined;
    slot.runs = 0;
  }

  #drop(key: string): void {
    const slot = this.#slots.get(key)!;
    this.#forget(slot);
    slot.inputs[Symbol.dispose]();
    this.#slots.delete(key);
  }

  readonly #forgetAll = (): void => {
    for (const slot of this.#slots.values()) this.#forget(slot);
  };

  /** Drops all recordings and their memory; shapes start anew. */
  clear(): void {
    for (const key of [...this.#slots.keys()]) this.#drop(key);
    this.#scratch.allocator.trim();
  }

  [Symbol.dispose](): void {
    this.clear();
    this.#scratch.dispose();
    this.#options.device.pool.reclaimers.delete(this.#forgetAll);
  }
}
