import type { DeviceBuffer, Offload, Offloaded } from '@lowrank/kernels';
import type { Handle } from '../native.ts';
import type { CommandList } from './commands.ts';
import type { CudaDevice } from './device.ts';
import type { CudaBuffer } from './memory.ts';

interface HostBlock {
  readonly handle: Handle;
  readonly bytes: number;
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
  /** Recorded on the side stream after the copy that is under way; undefined where the main stream has waited for it. */
  event: Handle | undefined;

  constructor(byteLength: number, block: HostBlock | undefined, pool: HostPool) {
    this.byteLength = byteLength;
    this.block = block;
    this.pool = pool;
  }
}

/**
 * Tensors that wait in pinned host memory. One side stream copies beside the main stream's kernels, and orders all use of the host's memory;
 * a copy begins after what the main stream was given so far, and the main stream waits for it when `stored` or `fetched` is called. Works
 * the same while a graph is recorded, where the side stream joins the recording through the first event and {@link settle} ends its part.
 */
export class CudaOffload implements Offload {
  readonly #device: CudaDevice;
  readonly #shared = new HostPool();
  #pool = this.#shared;
  #side: Handle | undefined;
  #fork: Handle = 0;
  readonly #events: Handle[] = [];
  #hostBytes = 0;
  /** Copies that the main stream has not waited for. */
  readonly #open = new Set<Entry>();

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  store(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Offloaded {
    const entry = new Entry(byteLength, byteLength > 0 ? this.#host(byteLength) : undefined, this.#pool);
    const source = { memory: (buffer as CudaBuffer).handle, offset: byteOffset, bytes: byteLength };
    this.#copy(entry, (list, host) => list.deviceToHost(source, host, 0));
    return entry;
  }

  stored(entry: Offloaded): void {
    this.#wait(entry as Entry);
  }

  fetch(entry: Offloaded, buffer: DeviceBuffer, byteOffset: number): void {
    const target = { memory: (buffer as CudaBuffer).handle, offset: byteOffset, bytes: entry.byteLength };
    this.#copy(entry as Entry, (list, host) => list.hostToDevice(target, host, 0));
  }

  fetched(entry: Offloaded): void {
    this.#wait(entry as Entry);
  }

  release(offloaded: Offloaded): void {
    const entry = offloaded as Entry;
    this.#wait(entry);
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
    for (const entry of this.#open) this.#idle(entry);
    this.#pool = this.#shared;
  }

  /** The main stream waits for every copy under way. */
  settle(): void {
    for (const entry of this.#open) this.#wait(entry);
  }

  /** Runs a copy beside the main stream, after what it has been given so far. */
  #copy(entry: Entry, command: (list: CommandList, host: Handle) => void): void {
    if (!entry.block) return;
    // One event an entry: a second copy begins where the first one has been waited for.
    this.#wait(entry);
    this.#start();
    const list = this.#device.commands;
    list.record(this.#fork);
    list.useStream(this.#side!);
    list.wait(this.#fork);
    command(list, entry.block.handle);
    entry.event = this.#events.pop() ?? this.#newEvent();
    list.record(entry.event);
    list.useStream(this.#device.stream);
    this.#open.add(entry);
    this.#device.enqueued();
  }

  #wait(entry: Entry): void {
    if (entry.event === undefined) return;
    this.#device.commands.wait(entry.event);
    this.#idle(entry);
    this.#device.enqueued();
  }

  #idle(entry: Entry): void {
    this.#events.push(entry.event!);
    entry.event = undefined;
    this.#open.delete(entry);
  }

  #newEvent(): Handle {
    const device = this.#device;
    return device.call(() => device.native.eventCreate(device.handle, false));
  }

  #start(): void {
    if (this.#side !== undefined) return;
    const device = this.#device;
    this.#fork = this.#newEvent();
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
