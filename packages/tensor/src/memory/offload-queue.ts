import { type DeviceBuffer, LowrankError, type Offload, type Offloaded } from '@lowrank/kernels';

/** Who gives its device memory up for a while: a storage. */
export interface Offloadable {
  readonly byteLength: number;
  /** Where its bytes are now. */
  place(): { readonly buffer: DeviceBuffer; readonly byteOffset: number };
  /** Its device memory may be used by what is enqueued after. */
  leave(): void;
  /** Takes new device memory, with contents undefined. Throws where there is none. */
  enter(): void;
}

/**
 * `going`: on the way to the host, the device memory still whole. `away`: on the host alone. `coming`: on the way back, into memory it holds.
 */
type State = 'going' | 'away' | 'coming';

interface Entry {
  readonly handle: Offloaded;
  state: State;
  /** Counted by `OffloadQueue.turn`. */
  readonly turn: number;
}

/**
 * This many of the tensors that will be asked for next are on their way back while the device computes. A block of a decoder keeps four:
 * with one fewer, those that its end and its neighbour's begin ask for have a product's time to come, and the least memory is held
 * in the step's narrowest place, the backward pass of the MLP.
 */
const ahead = 3;

/**
 * Which offloaded tensors are on their way, and when their memory is free: copies run beside kernels, what was stored last comes back first.
 * The order depends on the calls alone, so that a recorded step, an eager one and a forecast agree on every byte.
 */
export class OffloadQueue {
  readonly #backend: Offload;
  readonly #entries = new Map<Offloadable, Entry>();
  #turn = 0;

  constructor(backend: Offload) {
    this.#backend = backend;
  }

  /** Starts to move an owner's bytes to the host. */
  store(owner: Offloadable): void {
    const { buffer, byteOffset } = owner.place();
    const handle = this.#backend.store(buffer, byteOffset, owner.byteLength);
    this.#entries.set(owner, { handle, state: 'going', turn: this.#turn });
  }

  /** Whether an owner's bytes are on the host, or on the way. */
  holds(owner: Offloadable): boolean {
    return this.#entries.has(owner);
  }

  /** A part of the computation begins (a block of a model): what was stored before the preceding part gives its device memory up. */
  turn(): void {
    for (const [owner, entry] of this.#entries)
      if (entry.state === 'going' && entry.turn < this.#turn) this.#leave(owner, entry);
    this.#turn++;
  }

  /** The owner's bytes are needed on the device: after this it has memory, and kernels enqueued after see them. */
  fetch(owner: Offloadable): void {
    const entry = this.#entries.get(owner)!;
    // Still whole: later writers wait for the copy all the same.
    if (entry.state === 'going') this.#backend.stored(entry.handle);
    else if (entry.state === 'coming') this.#backend.fetched(entry.handle);
    else {
      this.#leaveAll();
      owner.enter();
      const { buffer, byteOffset } = owner.place();
      this.#backend.fetch(entry.handle, buffer, byteOffset);
      this.#backend.fetched(entry.handle);
    }
    this.#forget(owner, entry);
    this.#bringAhead();
  }

  /** Nobody needs the bytes any more. Device memory that the owner holds is its own to give up. */
  release(owner: Offloadable): void {
    const entry = this.#entries.get(owner)!;
    const { handle, state } = entry;
    if (state === 'going') this.#backend.stored(handle);
    else if (state === 'coming') this.#backend.fetched(handle);
    this.#forget(owner, entry);
  }

  /** The device waits for every copy under way: what goes is away after this, what comes is back. Recordings begin and end so. */
  settle(): void {
    this.#leaveAll();
    for (const [owner, entry] of [...this.#entries]) {
      if (entry.state !== 'coming') continue;
      this.#backend.fetched(entry.handle);
      this.#forget(owner, entry);
    }
  }

  #leaveAll(): void {
    for (const [owner, entry] of this.#entries) if (entry.state === 'going') this.#leave(owner, entry);
  }

  #leave(owner: Offloadable, entry: Entry): void {
    this.#backend.stored(entry.handle);
    entry.state = 'away';
    owner.leave();
  }

  #forget(owner: Offloadable, entry: Entry): void {
    this.#entries.delete(owner);
    this.#backend.release(entry.handle);
  }

  #bringAhead(): void {
    const newest = [...this.#entries].reverse();
    let coming = newest.filter(([, { state }]) => state === 'coming').length;
    for (const [owner, entry] of newest) {
      if (coming >= ahead) return;
      if (entry.state !== 'away') continue;
      if (!this.#room(owner)) return;
      const { buffer, byteOffset } = owner.place();
      this.#backend.fetch(entry.handle, buffer, byteOffset);
      entry.state = 'coming';
      coming++;
    }
  }
  /** What comes ahead takes no memory that others need: where there is none, it is fetched when it is asked for. */
  #room(owner: Offloadable): boolean {
    try {
      owner.enter();
      return true;
    } catch (error) {
      if (error instanceof LowrankError && error.op === 'allocate') return false;
      throw error;
    }
  }
}
