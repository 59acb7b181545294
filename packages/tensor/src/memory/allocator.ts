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
  /** Gives memory that is wholly free back to the device, unless it is pinned. */
  trim(): void;
  /** Addresses are known elsewhere (to a recording): nothing goes back to the device meanwhile. */
  pinned: boolean;
  /** Asked to let go of what is pinned, before more is taken than lies idle. */
  unpin: (() => void) | undefined;
  /** Bytes held from the device. */
  readonly reservedBytes: number;
  /** Blocks handed out now. */
  readonly blocks: number;
}

/** A new slab is this share of what is held: many sizes merge in few slabs, and at most so much lies idle at a slab's end. */
const growth = 1 / 8;
/** The largest slab, in slabs of the memory's own size. */
const largestSlab = 16;
/** What may be wasted of a whole buffer that is reused, as a share of the block in it. */
const mostWasted = { free: 1 / 8, pinned: 1 };

interface Range {
  offset: number;
  length: number;
}

interface Slab {
  readonly buffer: DeviceBuffer;
  readonly free: Range[]; // ascending, never touching
}

function roundUp(n: number, to: number): number {
  return Math.ceil(Math.max(n, 1) / to) * to;
}

/** What both kinds count, and when they ask for room. */
abstract class Counting {
  reservedBytes = 0;
  blocks = 0;
  pinned = false;
  unpin: (() => void) | undefined;
  #bytes = 0;

  protected count(byteLength: number): void {
    this.blocks++;
    this.#bytes += byteLength;
  }

  protected uncount(byteLength: number): void {
    this.blocks--;
    this.#bytes -= byteLength;
  }

  /** What lies idle makes room for `need` bytes that fit nowhere. */
  protected makeRoom(need: number): void {
    if (this.pinned && this.reservedBytes - this.#bytes >= need) this.unpin?.();
    this.release(need);
  }

  trim(): void {
    this.release(Number.POSITIVE_INFINITY);
  }

  /** Gives idle memory back to the device, unless it is pinned, until `enough` bytes have. */
  protected abstract release(enough: number): void;
}

/** Best fit over slabs: many tensors share a buffer, neighbours merge when freed. A request larger than a slab gets a slab of its own. */
class SlabAllocator extends Counting implements Allocator {
  readonly #memory: Memory;
  readonly #slabBytes: number;
  readonly #slabs = new Map<DeviceBuffer, Slab>();

  constructor(memory: Memory, slabBytes: number) {
    super();
    this.#memory = memory;
    this.#slabBytes = slabBytes;
  }

  allocate(byteLength: number): Block {
    const need = roundUp(byteLength, this.#memory.alignment);
    let best: { slab: Slab; index: number; length: number } | undefined;
    for (const slab of this.#slabs.values())
      for (let i = 0; i < slab.free.length; i++) {
        const length = slab.free[i]!.length;
        if (length >= need && (!best || length < best.length)) best = { slab, index: i, length };
      }
    if (!best) {
      const slab = this.#grow(need);
      best = { slab, index: 0, length: slab.free[0]!.length };
    }
    this.count(need);
    const range = best.slab.free[best.index]!;
    const block: Block = { buffer: best.slab.buffer, byteOffset: range.offset, byteLength: need, owner: this };
    if (range.length === need) best.slab.free.splice(best.index, 1);
    else {
      range.offset += need;
      range.length -= need;
    }
    return block;
  }

  free(block: Block): void {
    this.uncount(block.byteLength);
    const ranges = this.#slabs.get(block.buffer)!.free;
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
    for (const slab of [...this.#slabs.values()]) {
      if (released >= enough) return;
      if (slab.free.length !== 1 || slab.free[0]!.length !== slab.buffer.byteLength) continue;
      released += slab.buffer.byteLength;
      this.#slabs.delete(slab.buffer);
      this.reservedBytes -= slab.buffer.byteLength;
      this.#memory.release(slab.buffer);
    }
  }

  #grow(need: number): Slab {
    this.makeRoom(need);
    const share = roundUp(this.reservedBytes * growth, this.#memory.alignment);
    const usual = Math.min(Math.max(share, this.#slabBytes), largestSlab * this.#slabBytes);
    const buffer = this.#take(need, usual);
    const slab: Slab = { buffer, free: [{ offset: 0, length: buffer.byteLength }] };
    this.#slabs.set(buffer, slab);
    this.reservedBytes += buffer.byteLength;
    return slab;
  }

  #take(need: number, usual: number): DeviceBuffer {
    if (usual <= need) return this.#memory.allocate(need);
    try {
      return this.#memory.allocate(usual);
    } catch {
      return this.#memory.allocate(need);
    }
  }
}

/**
 * One buffer a block, for devices that cannot share them. Freed buffers are kept and reused where an eighth at most is added to the block, or,
 * of what is pinned anyway, as much again.
 */
class WholeAllocator extends Counting implements Allocator {
  readonly #memory: Memory;
  readonly #free: DeviceBuffer[] = []; // ascending by size

  constructor(memory: Memory) {
    super();
    this.#memory = memory;
  }

  allocate(byteLength: number): Block {
    const need = roundUp(byteLength, this.#memory.alignment);
    const at = this.#free.findIndex((b) => b.byteLength >= need);
    let buffer: DeviceBuffer;
    const wasted = at < 0 ? Number.POSITIVE_INFINITY : this.#free[at]!.byteLength - need;
    if (at >= 0 && wasted <= need * mostWasted[this.pinned ? 'pinned' : 'free'] + 1024)
      buffer = this.#free.splice(at, 1)[0]!;
    else {
      this.makeRoom(need);
      buffer = this.#memory.allocate(need);
      this.reservedBytes += buffer.byteLength;
    }
    this.count(need);
    return { buffer, byteOffset: 0, byteLength: need, owner: this };
  }

  free({ buffer, byteLength }: Block): void {
    this.uncount(byteLength);
    const at = this.#free.findIndex((b) => b.byteLength >= buffer.byteLength);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, buffer);
  }

  /** Free buffers go back, the largest first. */
  protected override release(enough: number): void {
    if (this.pinned) return;
    for (let released = 0; released < enough && this.#free.length; ) {
      const buffer = this.#free.pop()!;
      released += buffer.byteLength;
      this.reservedBytes -= buffer.byteLength;
      this.#memory.release(buffer);
    }
  }
}

export function createAllocator(memory: Memory): Allocator {
  return memory.pooling.kind === 'slab'
    ? new SlabAllocator(memory, memory.pooling.slabBytes)
    : new WholeAllocator(memory);
}
