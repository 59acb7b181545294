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
  /** Gives memory that is wholly free back to the device. */
  trim(): void;
  /** Bytes held from the device. */
  readonly reservedBytes: number;
}

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

/** Best fit over slabs: many tensors share a buffer, neighbours merge when freed. A request larger than a slab gets a slab of its own. */
class SlabAllocator implements Allocator {
  reservedBytes = 0;
  readonly #memory: Memory;
  readonly #slabBytes: number;
  readonly #slabs = new Map<DeviceBuffer, Slab>();

  constructor(memory: Memory, slabBytes: number) {
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

  trim(): void {
    for (const slab of [...this.#slabs.values()])
      if (slab.free.length === 1 && slab.free[0]!.length === slab.buffer.byteLength) {
        this.#slabs.delete(slab.buffer);
        this.reservedBytes -= slab.buffer.byteLength;
        this.#memory.release(slab.buffer);
      }
  }

  #grow(need: number): Slab {
    const buffer = this.#memory.allocate(Math.max(need, this.#slabBytes));
    const slab: Slab = { buffer, free: [{ offset: 0, length: buffer.byteLength }] };
    this.#slabs.set(buffer, slab);
    this.reservedBytes += buffer.byteLength;
    return slab;
  }
}

/** One buffer a block, for devices that cannot share them; freed buffers are kept and reused when at most an eighth would be wasted. */
class WholeAllocator implements Allocator {
  reservedBytes = 0;
  readonly #memory: Memory;
  readonly #free: DeviceBuffer[] = []; // ascending by size

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  allocate(byteLength: number): Block {
    const need = roundUp(byteLength, this.#memory.alignment);
    const at = this.#free.findIndex((b) => b.byteLength >= need);
    if (at >= 0 && this.#free[at]!.byteLength <= need * 1.125 + 1024) {
      const [buffer] = this.#free.splice(at, 1);
      return { buffer: buffer!, byteOffset: 0, byteLength: buffer!.byteLength, owner: this };
    }
    const buffer = this.#memory.allocate(need);
    this.reservedBytes += buffer.byteLength;
    return { buffer, byteOffset: 0, byteLength: buffer.byteLength, owner: this };
  }

  free({ buffer }: Block): void {
    const at = this.#free.findIndex((b) => b.byteLength >= buffer.byteLength);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, buffer);
  }

  trim(): void {
    for (const buffer of this.#free.splice(0)) {
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
