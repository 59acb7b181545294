import type { DeviceBuffer, Memory } from '@lowrank/kernels';

/** A piece of device memory handed out by an allocator. */
export interface Block {
  readonly buffer: DeviceBuffer;
  readonly byteOffset: number;
  /** Rounded up to the memory's alignment. */
  readonly byteLength: number;
  readonly owner: Allocator;
}

/** Hands out blocks of raw memory and takes them back; keeps what is free for the next request. */
export interface Allocator {
  allocate(byteLength: number): Block;
  free(block: Block): void;
  /** All of a free piece that holds `byteLength`, for another allocator to cut up; undefined where there is none. */
  lend(byteLength: number): Block | undefined;
  /** Gives memory that is wholly free back to where it came from, unless it is pinned. */
  trim(): void;
  /** Addresses are known elsewhere (to a recording): nothing goes back meanwhile. */
  pinned: boolean;
  /** Asked to let go of what is pinned, before more is taken than lies idle. */
  unpin: (() => void) | undefined;
  /** Bytes held from the device, without what another allocator lends. */
  readonly reservedBytes: number;
  /** Blocks handed out now. */
  readonly blocks: number;
  /** Whether it holds nothing, of the device or of another allocator. */
  readonly empty: boolean;
}

/** A new slab is this share of what is held: many sizes merge in few slabs, and at most so much lies idle at a slab's end. */
const growth = 1 / 32;
/** The largest slab, in slabs of the memory's own size. */
const largestSlab = 16;
/** What may be wasted of a whole buffer that is reused, as a share of the block in it. */
const mostWasted = { free: 1 / 8, pinned: 1 };

interface Range {
  offset: number;
  length: number;
}

function roundUp(n: number, to: number): number {
  return Math.ceil(Math.max(n, 1) / to) * to;
}

/** What both kinds count, where their memory comes from, and when they ask for room. */
abstract class Counting {
  blocks = 0;
  pinned = false;
  unpin: (() => void) | undefined;
  reservedBytes = 0;
  /** Bytes held in all: of the device, and of the lender. */
  protected held = 0;
  #used = 0;
  readonly memory: Memory;
  readonly #lender: Allocator | undefined;

  constructor(memory: Memory, lender: Allocator | undefined) {
    this.memory = memory;
    this.#lender = lender;
  }

  get empty(): boolean {
    return this.held === 0;
  }

  protected count(byteLength: number): void {
    this.blocks++;
    this.#used += byteLength;
  }

  protected uncount(byteLength: number): void {
    this.blocks--;
    this.#used -= byteLength;
  }

  /** What lies idle makes room for `need` bytes that fit nowhere. */
  protected makeRoom(need: number): void {
    if (this.pinned && this.held - this.#used >= need) this.unpin?.();
    this.release(need);
  }

  /** Memory for at least `need` bytes: what the lender has lying idle, or of the device. */
  protected take(need: number, allocate: () => DeviceBuffer): Source {
    const lent = this.#lender?.lend(need);
    const buffer = lent?.buffer ?? allocate();
    const source = { lent, buffer, byteOffset: lent?.byteOffset ?? 0, byteLength: (lent ?? buffer).byteLength };
    this.held += source.byteLength;
    if (!lent) this.reservedBytes += source.byteLength;
    return source;
  }

  protected giveBack({ lent, buffer, byteLength }: Source): void {
    this.held -= byteLength;
    if (lent) return lent.owner.free(lent);
    this.reservedBytes -= byteLength;
    this.memory.release(buffer);
  }

  trim(): void {
    this.release(Number.POSITIVE_INFINITY);
  }

  /** Gives idle memory back, unless it is pinned, until `enough` bytes have gone. */
  protected abstract release(enough: number): void;
}

/** Where blocks are cut from: a buffer of the device, or a block of another allocator. */
interface Source {
  readonly lent: Block | undefined;
  readonly buffer: DeviceBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
}

interface Slab extends Source {
  /** Ascending, never touching; offsets are those of the buffer. */
  readonly free: Range[];
}

interface SlabBlock extends Block {
  readonly slab: Slab;
}

/** First fit over slabs: many tensors share a buffer, neighbours merge when freed. A request larger than a slab gets a slab of its own. */
class SlabAllocator extends Counting implements Allocator {
  readonly #slabBytes: number;
  readonly #slabs = new Set<Slab>();

  constructor(memory: Memory, slabBytes: number, lender?: Allocator) {
    super(memory, lender);
    this.#slabBytes = slabBytes;
  }

  allocate(byteLength: number): Block {
    const need = roundUp(byteLength, this.memory.alignment);
    const place = this.#firstFit(need) ?? this.#grow(need);
    return this.#cut(place.slab, place.index, need);
  }

  lend(byteLength: number): Block | undefined {
    const place = this.#firstFit(roundUp(byteLength, this.memory.alignment));
    return place && this.#cut(place.slab, place.index, place.slab.free[place.index]!.length);
  }

  #firstFit(need: number): { readonly slab: Slab; readonly index: number } | undefined {
    for (const slab of this.#slabs) {
      const index = slab.free.findIndex(({ length }) => length >= need);
      if (index >= 0) return { slab, index };
    }
    return undefined;
  }

  #cut(slab: Slab, index: number, byteLength: number): SlabBlock {
    const range = slab.free[index]!;
    const block = { buffer: slab.buffer, byteOffset: range.offset, byteLength, owner: this, slab };
    this.count(byteLength);
    if (range.length === byteLength) slab.free.splice(index, 1);
    else {
      range.offset += byteLength;
      range.length -= byteLength;
    }
    return block;
  }

  free(block: Block): void {
    this.uncount(block.byteLength);
    const ranges = (block as SlabBlock).slab.free;
    let lo = 0;
    let hi = ranges.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (ranges[mid]!.offset < block.byteOffset) lo = mid + 1;
      else hi = mid;
    }
    const before = ranges[lo - 1];
    const after = ranges[lo];
    const joinsBefore = before && before.offset + before.length === block.byteOffset;
    const joinsAfter = after && block.byteOffset + block.byteLength === after.offset;
    if (joinsBefore && joinsAfter) {
      before.length += block.byteLength + after.length;
      ranges.splice(lo, 1);
    } else if (joinsBefore) before.length += block.byteLength;
    else if (joinsAfter) {
      after.offset = block.byteOffset;
      after.length += block.byteLength;
    } else ranges.splice(lo, 0, { offset: block.byteOffset, length: block.byteLength });
  }

  /** Slabs that are wholly free go back. */
  protected override release(enough: number): void {
    if (this.pinned) return;
    let released = 0;
    for (const slab of [...this.#slabs]) {
      if (released >= enough) return;
      if (slab.free.length !== 1 || slab.free[0]!.length !== slab.byteLength) continue;
      released += slab.byteLength;
      this.#slabs.delete(slab);
      this.giveBack(slab);
    }
  }

  #grow(need: number): { readonly slab: Slab; readonly index: number } {
    this.makeRoom(need);
    const share = roundUp(this.held * growth, this.memory.alignment);
    const usual = Math.min(Math.max(share, this.#slabBytes), largestSlab * this.#slabBytes);
    const source = this.take(need, () => this.#newBuffer(need, usual));
    const slab: Slab = { ...source, free: [{ offset: source.byteOffset, length: source.byteLength }] };
    this.#slabs.add(slab);
    return { slab, index: 0 };
  }

  #newBuffer(need: number, usual: number): DeviceBuffer {
    if (usual <= need) return this.memory.allocate(need);
    try {
      return this.memory.allocate(usual);
    } catch {
      return this.memory.allocate(need);
    }
  }
}

interface WholeBlock extends Block {
  readonly source: Source;
}

/**
 * One buffer a block, for devices that cannot share them. Freed buffers are kept and reused where an eighth at most is added to the block, or,
 * of what is pinned anyway, as much again.
 */
class WholeAllocator extends Counting implements Allocator {
  readonly #free: Source[] = []; // ascending by size

  allocate(byteLength: number): Block {
    const need = roundUp(byteLength, this.memory.alignment);
    const kept = this.#reuse(need);
    if (!kept) this.makeRoom(need);
    return this.#block(kept ?? this.take(need, () => this.memory.allocate(need)), need);
  }

  lend(byteLength: number): Block | undefined {
    const need = roundUp(byteLength, this.memory.alignment);
    const kept = this.#reuse(need);
    return kept && this.#block(kept, kept.byteLength);
  }

  #reuse(need: number): Source | undefined {
    const at = this.#free.findIndex((s) => s.byteLength >= need);
    if (at < 0) return undefined;
    const wasted = this.#free[at]!.byteLength - need;
    if (wasted > need * mostWasted[this.pinned ? 'pinned' : 'free'] + 1024) return undefined;
    return this.#free.splice(at, 1)[0];
  }

  #block(source: Source, byteLength: number): WholeBlock {
    this.count(byteLength);
    return { buffer: source.buffer, byteOffset: 0, byteLength, owner: this, source };
  }

  free(block: Block): void {
    this.uncount(block.byteLength);
    const { source } = block as WholeBlock;
    const at = this.#free.findIndex((s) => s.byteLength >= source.byteLength);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, source);
  }

  /** Free buffers go back, the largest first. */
  protected override release(enough: number): void {
    if (this.pinned) return;
    for (let released = 0; released < enough && this.#free.length; ) {
      const source = this.#free.pop()!;
      released += source.byteLength;
      this.giveBack(source);
    }
  }
}

/** An allocator over a device's memory. `lender`: another one whose idle memory is used before more is taken from the device. */
export function createAllocator(memory: Memory, lender?: Allocator): Allocator {
  return memory.pooling.kind === 'slab'
    ? new SlabAllocator(memory, memory.pooling.slabBytes, lender)
    : new WholeAllocator(memory, lender);
}
