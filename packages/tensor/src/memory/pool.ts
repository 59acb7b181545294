import { LowrankError, type Memory } from '@lowrank/kernels';
import { type Allocator, type Block, createAllocator } from './allocator.ts';

/** What memory is for. Reported by class, so that "what must be lowered" has an answer. */
export type MemoryClass = 'weights' | 'adapters' | 'gradients' | 'optimizer' | 'activations' | 'workspace' | 'data';
export const memoryClasses: readonly MemoryClass[] = [
  'weights',
  'adapters',
  'gradients',
  'optimizer',
  'activations',
  'workspace',
  'data',
];

export type BytesByClass = Record<MemoryClass, number>;

/** All figures in bytes. `live` is held by tensors now, `peak` the most it has been, `reserved` what the device has given out. */
export interface MemoryStatistics {
  readonly live: number;
  readonly liveByClass: Readonly<BytesByClass>;
  readonly peak: number;
  /** By class, at the moment of the peak. */
  readonly peakByClass: Readonly<BytesByClass>;
  readonly reserved: number;
  readonly peakReserved: number;
  /** Blocks handed out so far: a warm loop that records or reuses adds none. */
  readonly allocations: number;
}

const none = (): BytesByClass => ({
  weights: 0,
  adapters: 0,
  gradients: 0,
  optimizer: 0,
  activations: 0,
  workspace: 0,
  data: 0,
});

/** While a step is recorded, its blocks come from an allocator of its own, and nothing that the record may touch goes back to the pool. */
export interface Arena {
  readonly allocator: Allocator;
  readonly scratch: Scratch | undefined;
  readonly deferred: Block[];
}

/**
 * Memory in which runs take turns, eager and recorded ones: together they hold what the largest of them needs. It is for work that leaves no
 * tensor behind; where one stays all the same, `occupied` says so, and nobody else may run there any more.
 */
export class Scratch implements Disposable {
  readonly #pool: Pool;
  readonly allocator: Allocator;
  /** Recordings that know addresses here. */
  #recordings = 0;

  /** Internal: `device.scratch()` makes one. */
  constructor(pool: Pool, allocator: Allocator, forget: () => void) {
    this.#pool = pool;
    this.allocator = allocator;
    allocator.unpin = forget;
  }

  /** Whether a tensor that was made here is still alive. */
  get occupied(): boolean {
    return this.allocator.blocks > 0;
  }

  /** Runs eager work whose blocks come from here. */
  run<T>(work: () => T): T {
    return this.#pool.within(this.allocator, work);
  }

  /** Internal: a recording was made here (+1), or is gone (−1). */
  pin(change: 1 | -1): void {
    this.#recordings += change;
    this.allocator.pinned = this.#recordings > 0;
  }

  /** Gives back what no tensor holds, and the rest as soon as tensors let go. Recordings made here must be gone. */
  dispose(): void {
    this.#pool.retire(this.allocator);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The pooled allocator with accounting that all backends share. */
export class Pool {
  readonly #memory: Memory;
  readonly #main: Allocator;
  /** Allocators beside the main one, and whether they only wait for their tensors to let go. */
  readonly #others = new Map<Allocator, { retired: boolean }>();
  /** Where blocks come from. */
  #current: Allocator;
  #arena: Arena | undefined;
  /** What lets go of memory when the device has no more. */
  readonly reclaimers = new Set<() => void>();
  #live = 0;
  #peak = 0;
  #peakReserved = 0;
  #allocations = 0;
  readonly #byClass = none();
  #peakByClass = none();

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#main = createAllocator(memory);
    this.#current = this.#main;
  }

  allocate(byteLength: number, cls: MemoryClass): Block {
    const block = this.#take(byteLength, cls);
    this.#allocations++;
    this.#live += block.byteLength;
    this.#byClass[cls] += block.byteLength;
    if (this.#live > this.#peak) {
      this.#peak = this.#live;
      this.#peakByClass = { ...this.#byClass };
    }
    this.#peakReserved = Math.max(this.#peakReserved, this.#reserved());
    return block;
  }

  #take(byteLength: number, cls: MemoryClass): Block {
    let cause: unknown;
    for (const makeRoom of [() => {}, () => this.trim(), () => this.#reclaim()]) {
      makeRoom();
      try {
        return this.#current.allocate(byteLength);
      } catch (error) {
        cause ??= error;
      }
    }
    throw new LowrankError(
      'allocate',
      'out of device memory',
      `asked ${format(byteLength)} for ${cls}; held: ${this.#describe()}`,
      'Lower the batch size or the sequence length, use --recompute block, or quantize the base',
      { cause },
    );
  }

  #reclaim(): void {
    for (const letGo of this.reclaimers) letGo();
    this.trim();
  }

  free(block: Block, cls: MemoryClass): void {
    this.#live -= block.byteLength;
    this.#byClass[cls] -= block.byteLength;
    if (this.#arena && block.owner !== this.#arena.allocator) {
      this.#arena.deferred.push(block);
      return;
    }
    block.owner.free(block);
    if (this.#others.get(block.owner)?.retired) this.retire(block.owner);
  }

  /** Memory for runs that leave nothing behind. */
  scratch(forget: () => void): Scratch {
    return new Scratch(this, this.#other(), forget);
  }

  #other(): Allocator {
    const allocator = createAllocator(this.#memory, this.#main);
    this.#others.set(allocator, { retired: false });
    return allocator;
  }

  /** Blocks that `work` asks for come from `allocator`. */
  within<T>(allocator: Allocator, work: () => T): T {
    const before = this.#current;
    this.#current = allocator;
    try {
      return work();
    } finally {
      this.#current = before;
    }
  }

  /** An allocator is done with: its free memory goes back to the device, the rest as soon as tensors let go. */
  retire(allocator: Allocator): void {
    const other = this.#others.get(allocator);
    if (!other) return;
    other.retired = true;
    allocator.trim();
    if (allocator.empty) this.#others.delete(allocator);
  }

  /** From here on, blocks are private to one recording, or to those that share its scratch. */
  beginArena(scratch?: Scratch): Arena {
    if (this.#arena) throw new LowrankError('record', 'a recording is under way already');
    this.#main.trim();
    this.#arena = { allocator: scratch?.allocator ?? this.#other(), scratch, deferred: [] };
    if (scratch) scratch.pin(1);
    else this.#arena.allocator.pinned = true;
    this.#current = this.#arena.allocator;
    return this.#arena;
  }

  endArena(): void {
    this.#arena = undefined;
    this.#current = this.#main;
  }

  /** The recording is dropped. */
  releaseArena({ allocator, scratch, deferred }: Arena): void {
    for (const block of deferred.splice(0)) block.owner.free(block);
    if (scratch) scratch.pin(-1);
    else {
      allocator.pinned = false;
      this.retire(allocator);
    }
  }

  statistics(): MemoryStatistics {
    return {
      live: this.#live,
      liveByClass: { ...this.#byClass },
      peak: this.#peak,
      peakByClass: { ...this.#peakByClass },
      reserved: this.#reserved(),
      peakReserved: this.#peakReserved,
      allocations: this.#allocations,
    };
  }

  resetPeak(): void {
    this.#peak = this.#live;
    this.#peakByClass = { ...this.#byClass };
    this.#peakReserved = this.#reserved();
  }

  /** Gives memory that nothing holds back to the device. */
  trim(): void {
    for (const other of this.#others.keys()) other.trim();
    this.#main.trim();
  }

  #reserved(): number {
    let sum = this.#main.reservedBytes;
    for (const a of this.#others.keys()) sum += a.reservedBytes;
    return sum;
  }

  #describe(): string {
    return memoryClasses
      .filter((c) => this.#byClass[c] > 0)
      .map((c) => `${c} ${format(this.#byClass[c])}`)
      .join(', ');
  }
}

function format(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
