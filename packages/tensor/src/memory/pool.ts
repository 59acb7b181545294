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

/** While a step is recorded, its blocks come from a private allocator, and nothing that the record may touch goes back to the pool. */
export interface Arena {
  readonly allocator: Allocator;
  readonly deferred: Block[];
  released: boolean;
}

/** The pooled allocator with accounting that all backends share. */
export class Pool {
  readonly #memory: Memory;
  readonly #main: Allocator;
  readonly #arenas = new Map<Allocator, Arena>();
  #arena: Arena | undefined;
  #live = 0;
  #peak = 0;
  #peakReserved = 0;
  #allocations = 0;
  readonly #byClass = none();
  #peakByClass = none();

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#main = createAllocator(memory);
  }

  allocate(byteLength: number, cls: MemoryClass): Block {
    const allocator = this.#arena?.allocator ?? this.#main;
    let block: Block;
    try {
      block = allocator.allocate(byteLength);
    } catch (error) {
      this.#main.trim();
      try {
        block = allocator.allocate(byteLength);
      } catch {
        throw new LowrankError(
          'allocate',
          'out of device memory',
          `asked ${format(byteLength)} for ${cls}; held: ${this.#describe()}`,
          'Lower the batch size or the sequence length, use --recompute block, or quantize the base',
          { cause: error },
        );
      }
    }
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

  free(block: Block, cls: MemoryClass): void {
    this.#live -= block.byteLength;
    this.#byClass[cls] -= block.byteLength;
    if (this.#arena && block.owner !== this.#arena.allocator) {
      this.#arena.deferred.push(block);
      return;
    }
    block.owner.free(block);
    const arena = this.#arenas.get(block.owner);
    if (arena?.released) block.owner.trim();
  }

  /** From here on, blocks are private to one recording. */
  beginArena(): Arena {
    if (this.#arena) throw new LowrankError('record', 'a recording is under way already');
    this.#main.trim();
    this.#arena = { allocator: createAllocator(this.#memory), deferred: [], released: false };
    this.#arenas.set(this.#arena.allocator, this.#arena);
    return this.#arena;
  }

  endArena(): void {
    this.#arena = undefined;
  }

  /** The recording is dropped: its free memory goes back to the device, the rest as soon as tensors let go. */
  releaseArena(arena: Arena): void {
    arena.released = true;
    for (const block of arena.deferred.splice(0)) block.owner.free(block);
    arena.allocator.trim();
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

  trim(): void {
    this.#main.trim();
  }

  #reserved(): number {
    let sum = this.#main.reservedBytes;
    for (const a of this.#arenas.keys()) sum += a.reservedBytes;
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
