import { type DeviceBuffer, LowrankError } from '@lowrank/kernels';

/** A piece of the WebAssembly memory. */
export interface HeapBuffer extends DeviceBuffer {
  /** Address of the first byte; −1 once released. */
  pointer: number;
}

const PAGE = 65536;
/** Allocations start on cache lines. */
export const ALIGNMENT = 64;
/** Kernels may read up to a vector past the end of a row. */
const SLACK = 64;

/** The largest memory that the engine gives: 4 GiB, or what it allows. Pages are only taken as `grow` asks for them. */
export function createMemory(shared: boolean): { memory: WebAssembly.Memory; maximumBytes: number } {
  for (const maximum of [65536, 32768, 16384, 8192]) {
    try {
      return { memory: new WebAssembly.Memory({ initial: 2, maximum, shared }), maximumBytes: maximum * PAGE };
    } catch (error) {
      if (maximum === 8192)
        throw new LowrankError(
          'cpuBackend',
          'no WebAssembly memory',
          String(error),
          'Even 512 MiB of address space was refused',
        );
    }
  }
  throw new Error('unreachable');
}

/** First-fit allocation over one growing memory. Addresses below `start` are not touched. */
export class Heap {
  readonly memory: WebAssembly.Memory;
  readonly maximumBytes: number;
  /** Ascending by address, never touching. */
  readonly #free: { pointer: number; length: number }[] = [];
  readonly #sizes = new Map<number, number>();
  #top: number;
  #bytes: Uint8Array;
  #reserved = 0;

  constructor(memory: WebAssembly.Memory, maximumBytes: number, start: number) {
    this.memory = memory;
    this.maximumBytes = maximumBytes;
    this.#top = roundUp(start);
    this.#bytes = new Uint8Array(memory.buffer);
  }

  /** The whole memory as bytes. Take it anew after every allocation: growing replaces it. */
  get bytes(): Uint8Array {
    if (this.#bytes.buffer !== this.memory.buffer) this.#bytes = new Uint8Array(this.memory.buffer);
    return this.#bytes;
  }

  /** Bytes handed out now, with their padding. */
  get reservedBytes(): number {
    return this.#reserved;
  }

  allocate(byteLength: number): HeapBuffer {
    const need = roundUp(byteLength + SLACK);
    let pointer: number;
    const index = this.#free.findIndex((r) => r.length >= need);
    if (index >= 0) {
      const range = this.#free[index]!;
      pointer = range.pointer;
      if (range.length === need) this.#free.splice(index, 1);
      else {
        range.pointer += need;
        range.length -= need;
      }
    } else {
      pointer = this.#top;
      this.#growTo(pointer + need, byteLength);
      this.#top = pointer + need;
    }
    this.#sizes.set(pointer, need);
    this.#reserved += need;
    return { byteLength, pointer };
  }

  release(buffer: HeapBuffer): void {
    const { pointer } = buffer;
    const length = this.#sizes.get(pointer);
    if (length === undefined)
      throw new LowrankError('memory', 'a buffer was released twice, or is not of this backend');
    this.#sizes.delete(pointer);
    this.#reserved -= length;
    buffer.pointer = -1;
    let at = this.#free.findIndex((r) => r.pointer > pointer);
    if (at < 0) at = this.#free.length;
    this.#free.splice(at, 0, { pointer, length });
    this.#merge(at);
    if (at > 0) this.#merge(at - 1);
    const last = this.#free.at(-1);
    if (last && last.pointer + last.length === this.#top) {
      this.#top = last.pointer;
      this.#free.pop();
    }
  }

  #merge(at: number): void {
    const a = this.#free[at];
    const b = this.#free[at + 1];
    if (!a || !b || a.pointer + a.length !== b.pointer) return;
    a.length += b.length;
    this.#free.splice(at + 1, 1);
  }

  #growTo(end: number, asked: number): void {
    const pages = Math.ceil((end - this.memory.buffer.byteLength) / PAGE);
    if (pages <= 0) return;
    try {
      this.memory.grow(pages);
    } catch (cause) {
      const mib = (n: number) => `${(n / 2 ** 20).toFixed(1)} MiB`;
      throw new LowrankError(
        'memory',
        'the WebAssembly memory cannot grow',
        `asked ${mib(asked)}, ${mib(this.#reserved)} in use of at most ${mib(this.maximumBytes)}`,
        '',
        { cause },
      );
    }
  }
}

function roundUp(n: number): number {
  return Math.ceil(n / ALIGNMENT) * ALIGNMENT;
}
