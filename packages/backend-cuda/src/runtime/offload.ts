import type { DeviceBuffer, Offload, Offloaded } from '@lowrank/kernels';
import type { Handle } from '../native.ts';
import type { CommandList, Range } from './commands.ts';
import type { CudaDevice } from './device.ts';
import type { CudaBuffer } from './memory.ts';

/** Copies pass through pieces of device memory of this size, so that the tensors themselves are free at once. */
const slotBytes = 16 << 20;
const slotCount = 4;

interface HostBlock {
  readonly handle: Handle;
  readonly bytes: number;
}

interface Slot {
  readonly range: Range;
  /** Recorded on the side stream after its last copy from or into the slot. */
  readonly event: Handle;
  /** The event stands for work that the main stream may still have to wait for. */
  busy: boolean;
  /** Whose bytes lie here, fetched ahead. */
  holder: Entry | undefined;
}

/** Pinned host memory by size. A recording has a pool of its own: its replays write the same blocks again, so nobody else may hold them. */
class HostPool {
  readonly parent: HostPool | undefined;
  readonly #free = new Map<number, HostBlock[]>();
  #closed = false;

  constructor(parent?: HostPool) {
    this.parent = parent;
  }

  take(bytes: number): HostBlock | undefined {
    return this.#free.get(bytes)?.pop() ?? this.parent?.take(bytes);
  }

  give(block: HostBlock): void {
    if (this.#closed) return this.parent!.give(block);
    const list = this.#free.get(block.bytes);
    if (list) list.push(block);
    else this.#free.set(block.bytes, [block]);
  }

  /** The recording is gone: what it held serves others. */
  close(): void {
    this.#closed = true;
    for (const list of this.#free.values()) for (const block of list) this.parent!.give(block);
    this.#free.clear();
  }
}

class Entry implements Offloaded {
  readonly byteLength: number;
  readonly block: HostBlock | undefined;
  readonly pool: HostPool;
  /** Slots that hold pieces of it, fetched ahead. */
  readonly ahead = new Map<number, Slot>();

  constructor(byteLength: number, block: HostBlock | undefined, pool: HostPool) {
    this.byteLength = byteLength;
    this.block = block;
    this.pool = pool;
  }

  /** Offsets and lengths of its pieces. */
  *pieces(): Generator<{ readonly index: number; readonly at: number; readonly bytes: number }> {
    for (let index = 0, at = 0; at < this.byteLength; index++, at += slotBytes)
      yield { index, at, bytes: Math.min(slotBytes, this.byteLength - at) };
  }
}

/**
 * Tensors that wait in pinned host memory. The main stream copies a tensor into slots of device memory and goes on; a side stream copies the
 * slots to the host. On the way back the side stream brings what was stored before into the slots while the main stream computes. One side
 * stream orders all use of the host's memory; events order the slots. Works the same while a graph is recorded, where the side stream joins
 * the recording through the first event and {@link settle} ends its part.
 */
export class CudaOffload implements Offload {
  readonly #device: CudaDevice;
  readonly #shared = new HostPool();
  #pool = this.#shared;
  #side: Handle | undefined;
  #fork: Handle = 0;
  #join: Handle = 0;
  #slots: Slot[] = [];
  #next = 0;
  #hostBytes = 0;
  /** The side stream has work that the main stream has not waited for. */
  #open = false;
  /** What is stored now, the newest last. */
  #stored: Entry[] = [];

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  store(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Offloaded {
    const entry = new Entry(byteLength, byteLength > 0 ? this.#host(byteLength) : undefined, this.#pool);
    this.#stored.push(entry);
    this.#start();
    const list = this.#device.commands;
    const memory = (buffer as CudaBuffer).handle;
    for (const { at, bytes } of entry.pieces()) {
      const slot = this.#slot();
      if (slot.busy) list.wait(slot.event);
      list.copy({ ...slot.range, bytes }, { memory, offset: byteOffset + at, bytes });
      this.#beside(list);
      list.deviceToHost({ ...slot.range, bytes }, entry.block!.handle, at);
      this.#back(list, slot);
    }
    this.#device.enqueued();
    return entry;
  }

  fetch(stored: Offloaded, buffer: DeviceBuffer, byteOffset: number): void {
    const entry = stored as Entry;
    this.#start();
    const list = this.#device.commands;
    const memory = (buffer as CudaBuffer).handle;
    const missing = [...entry.pieces()].filter(({ index }) => !entry.ahead.has(index));
    if (missing.length > 0) {
      this.#beside(list);
      for (const { at, bytes } of missing)
        list.hostToDevice({ memory, offset: byteOffset + at, bytes }, entry.block!.handle, at);
      list.record(this.#join);
      list.useStream(this.#device.stream);
      list.wait(this.#join);
    }
    for (const { index, at, bytes } of entry.pieces()) {
      const slot = entry.ahead.get(index);
      if (!slot) continue;
      list.wait(slot.event);
      list.copy({ memory, offset: byteOffset + at, bytes }, { ...slot.range, bytes });
    }
    this.#drop(entry);
    this.#ahead(entry);
    this.#device.enqueued();
  }

  release(stored: Offloaded): void {
    const entry = stored as Entry;
    const at = this.#stored.lastIndexOf(entry);
    if (at < 0) return;
    this.#stored.splice(at, 1);
    this.#drop(entry);
    if (entry.block) entry.pool.give(entry.block);
  }

  hostBytes(): number {
    return this.#hostBytes;
  }

  /** A recording begins: it takes host memory that no one else uses until it is released. Call `release` of the result then. */
  enter(): { release(): void } {
    this.settle();
    const pool = new HostPool(this.#shared);
    this.#pool = pool;
    return { release: () => pool.close() };
  }

  leave(): void {
    this.settle();
    this.#pool = this.#shared;
  }

  /** A recording was dropped: nothing of it was enqueued. */
  abandon(): void {
    this.#open = false;
    this.#forget();
    this.#pool = this.#shared;
  }

  /** The main stream waits for the side stream; nothing is held ahead after that, and no event of before is waited for again. */
  settle(): void {
    if (this.#open && this.#side !== undefined) {
      const list = this.#device.commands;
      list.useStream(this.#side);
      list.record(this.#join);
      list.useStream(this.#device.stream);
      list.wait(this.#join);
    }
    this.#open = false;
    this.#forget();
  }

  #forget(): void {
    for (const slot of this.#slots) {
      slot.busy = false;
      slot.holder = undefined;
    }
    for (const entry of this.#stored) entry.ahead.clear();
  }

  /** What was stored before `entry` comes next: it is brought in while the main stream computes. */
  #ahead(entry: Entry): void {
    const at = this.#stored.lastIndexOf(entry);
    const next = this.#stored[at - 1];
    if (!next || next.pool !== this.#pool || next.ahead.size > 0) return;
    const free = this.#slots.filter((s) => !s.holder);
    const list = this.#device.commands;
    for (const { index, at: from, bytes } of next.pieces()) {
      const slot = free[index];
      if (!slot) return;
      this.#beside(list);
      list.hostToDevice({ ...slot.range, bytes }, next.block!.handle, from);
      this.#back(list, slot);
      slot.holder = next;
      next.ahead.set(index, slot);
    }
  }

  #drop(entry: Entry): void {
    for (const slot of entry.ahead.values()) slot.holder = undefined;
    entry.ahead.clear();
  }

  /** A slot for a copy out; what was fetched ahead into it will be fetched again. */
  #slot(): Slot {
    const slots = this.#slots;
    const order = slots.map((_, i) => slots[(this.#next + i) % slots.length]!);
    const slot = order.find((s) => !s.holder) ?? order[0]!;
    this.#next = (slots.indexOf(slot) + 1) % slots.length;
    const { holder } = slot;
    if (holder) for (const [index, held] of holder.ahead) if (held === slot) holder.ahead.delete(index);
    slot.holder = undefined;
    return slot;
  }

  /** Commands from here on run beside the main stream, after what it has been given so far. */
  #beside(list: CommandList): void {
    list.record(this.#fork);
    list.useStream(this.#side!);
    list.wait(this.#fork);
    this.#open = true;
  }

  #back(list: CommandList, slot: Slot): void {
    list.record(slot.event);
    list.useStream(this.#device.stream);
    slot.busy = true;
  }

  #start(): void {
    if (this.#side !== undefined) return;
    const device = this.#device;
    const event = () => device.call(() => device.native.eventCreate(device.handle, false));
    const { handle } = device.allocate(slotBytes * slotCount);
    [this.#fork, this.#join] = [event(), event()];
    this.#slots = Array.from({ length: slotCount }, (_, i) => ({
      range: { memory: handle, offset: i * slotBytes, bytes: slotBytes },
      event: event(),
      busy: false,
      holder: undefined,
    }));
    this.#side = device.call(() => device.native.streamCreate(device.handle));
  }

  #host(byteLength: number): HostBlock {
    const bytes = Math.ceil(byteLength / 65536) * 65536;
    const kept = this.#pool.take(bytes);
    if (kept) return kept;
    const device = this.#device;
    const { handle } = device.call(() => device.native.hostAllocate(device.handle, bytes));
    this.#hostBytes += bytes;
    return { handle, bytes };
  }
}
