import { LowrankError, type View } from '@lowrank/kernels';
import { ALIGNMENT, createMemory, Heap, type HeapBuffer } from './heap.ts';
import { compileKernels, hasRelaxedSimd, hasSharedMemory, type KernelModule } from './module.ts';
import { Threads } from './threads.ts';
import { hardwareThreads } from './workers.ts';

type WasmFunction = (...args: number[]) => number;

/** Where things lie below the heap. The module's own few static bytes come first. */
const CONTROL = 16384;
/** The control block takes 576 bytes. */
const DESCRIPTORS = CONTROL + 4096;
const DESCRIPTOR_BYTES = 512;
const DESCRIPTOR_COUNT = 4;
const SCRATCH = 65536;

/** Work below this is not worth waking threads for, in nanoseconds of one thread. */
const WORTH_SPLITTING_NS = 100_000;
/** Chunks a thread of a parallel region: enough to even out uneven chunks and a busy machine. */
const CHUNKS_A_THREAD = 4;

export interface EngineOptions {
  /** Threads in all, the calling one included. Default: what the machine runs at once, at most 16; 1 where memory cannot be shared. */
  readonly threads?: number;
  /** Which build to run. Default: relaxed where the engine has it. For tests and comparisons. */
  readonly simd?: 'relaxed' | 'plain';
  /** Nanoseconds of work from which threads share it. Default 100,000. For tests and comparisons. */
  readonly splitFrom?: number;
}

interface Parts {
  readonly heap: Heap;
  readonly exports: Record<string, WasmFunction>;
  readonly names: readonly string[];
  readonly threads: Threads | undefined;
  readonly relaxed: boolean;
  readonly note: string;
  readonly fixedBytes: number;
  readonly splitFrom: number;
}

/** The instance of the main thread, its memory and its helpers: what every op of the backend runs on. */
export class Engine {
  readonly heap: Heap;
  readonly relaxed: boolean;
  /** Why fewer threads run than were asked for; empty where none is missing. */
  readonly threadNote: string;
  readonly #exports: Record<string, WasmFunction>;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #threads: Threads | undefined;
  readonly #fixedBytes: number;
  readonly #splitFrom: number;
  #arena: HeapBuffer[] = [];
  #arenaUsed = 0;
  #arenaAsked = 0;
  #closed = false;

  private constructor(parts: Parts) {
    this.heap = parts.heap;
    this.relaxed = parts.relaxed;
    this.threadNote = parts.note;
    this.#exports = parts.exports;
    this.#ids = new Map(parts.names.map((name, i) => [name, i]));
    this.#threads = parts.threads;
    this.#fixedBytes = parts.fixedBytes;
    this.#splitFrom = parts.splitFrom;
  }

  static async create(options: EngineOptions): Promise<Engine> {
    const relaxed = options.simd ? options.simd === 'relaxed' : hasRelaxedSimd();
    if (relaxed && !hasRelaxedSimd())
      throw new LowrankError('cpuBackend', 'this engine has no relaxed SIMD', '', "Use simd: 'plain'");
    const wanted = options.threads ?? Math.min(16, hardwareThreads());
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > 256)
      throw new LowrankError('cpuBackend', 'threads must be an integer from 1 to 256', String(options.threads));
    const canShare = hasSharedMemory();
    const shared = canShare && wanted > 1;
    const kernels = await compileKernels({ relaxed, shared });
    const { memory, maximumBytes } = createMemory(shared);
    const instance = new WebAssembly.Instance(kernels.module, { env: { memory, abort: () => {} } });
    const exports = instance.exports as Record<string, WasmFunction>;
    const names = Object.keys(exports).filter((name) => typeof exports[name] === 'function');
    const scratchBytes = exports.scratchBytes!();
    const count = shared ? wanted : 1;
    const start = SCRATCH + count * scratchBytes;
    memory.grow(Math.ceil((start - memory.buffer.byteLength) / 65536));
    exports.setScratch!(SCRATCH);
    let threads: Threads | undefined;
    let note = wanted > 1 && !shared ? 'memory cannot be shared here (a page needs COOP and COEP headers)' : '';
    if (shared) {
      threads = new Threads(memory, CONTROL, exports.claim!);
      note = await startThreads(threads, kernels, memory, names, count, scratchBytes);
    }
    const heap = new Heap(memory, maximumBytes, start);
    const splitFrom = options.splitFrom ?? WORTH_SPLITTING_NS;
    return new Engine({ heap, exports, names, threads, relaxed, note, fixedBytes: start, splitFrom });
  }

  get threads(): number {
    return this.#threads?.count ?? 1;
  }

  /** Heap, scratch and temporaries. */
  get reservedBytes(): number {
    return this.heap.reservedBytes + this.#fixedBytes;
  }

  /**
   * Runs a kernel over `units` of work (its last two arguments are a range of them), on several threads where `units · nsPerUnit` makes that
   * worth it. Splitting never changes results: a unit is computed the same way whoever does it.
   */
  run(name: string, args: readonly number[], units: number, nsPerUnit: number): void {
    if (units <= 0) return;
    const kernel = this.#exports[name];
    const id = this.#ids.get(name);
    if (!kernel || id === undefined) throw new LowrankError('backend-cpu', 'no such kernel', name);
    this.checkOpen();
    const threads = this.#threads;
    if (!threads || units === 1 || threads.count === 1 || units * nsPerUnit < this.#splitFrom)
      kernel(...args, 0, units);
    else threads.run(id, kernel, args, units, Math.max(1, Math.floor(units / (threads.count * CHUNKS_A_THREAD))));
  }

  /** Throws once the backend is closed. */
  checkOpen(): void {
    if (this.#closed) throw new LowrankError('backend-cpu', 'the backend is closed');
  }

  /** Calls an exported function that is not split. */
  call(name: string, ...args: number[]): number {
    return this.#exports[name]!(...args);
  }

  /**
   * Writes a descriptor of leading axes: their lengths, and the strides of each operand over them (see kernels/common/wasm/rows.as.ts).
   * Up to four are alive at a time, by `slot`; they hold until the next op.
   */
  describe(slot: number, shape: readonly number[], operands: readonly (readonly number[])[]): number {
    if (slot >= DESCRIPTOR_COUNT || shape.length > 8 || operands.length > 13)
      throw new LowrankError('backend-cpu', 'too many axes', `${shape.length}, at most 8 after joining`);
    const pointer = DESCRIPTORS + slot * DESCRIPTOR_BYTES;
    const words = new Int32Array(this.heap.memory.buffer, pointer, 9 + 8 * operands.length);
    words[0] = shape.length;
    words.set(shape, 1);
    operands.forEach((strides, j) => {
      words.set(strides, 9 + 8 * j);
    });
    return pointer;
  }

  /** Address of a view's first element. */
  pointer(view: View): number {
    const { pointer } = view.buffer as HeapBuffer;
    if (pointer < 0) throw new LowrankError('backend-cpu', 'a view lies on memory that was released');
    return pointer + view.byteOffset;
  }

  /** Memory that lasts until the next call of `reset`; contents undefined. */
  temporary(byteLength: number): number {
    const need = Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT + ALIGNMENT;
    this.#arenaAsked += need;
    const last = this.#arena.at(-1);
    if (!last || this.#arenaUsed + need > last.byteLength) {
      this.#arena.push(this.heap.allocate(Math.max(need, 1 << 16)));
      this.#arenaUsed = 0;
    }
    const { pointer } = this.#arena.at(-1)!;
    const at = Math.ceil((pointer + this.#arenaUsed) / ALIGNMENT) * ALIGNMENT;
    this.#arenaUsed = at + need - pointer;
    return at;
  }

  /** Frees all temporaries; what one op needed in several pieces becomes one piece for the next. Large ones go back to the heap. */
  reset(): void {
    if (this.#arenaAsked === 0) return;
    if (this.#arena.length > 1 || this.#arenaAsked > 1 << 22) {
      for (const buffer of this.#arena.splice(0)) this.heap.release(buffer);
      if (this.#arenaAsked <= 1 << 22) this.#arena.push(this.heap.allocate(this.#arenaAsked));
    }
    this.#arenaUsed = 0;
    this.#arenaAsked = 0;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#threads?.close();
  }
}

/** Starts threads up to `count`; says why where one did not start. */
async function startThreads(
  threads: Threads,
  kernels: KernelModule,
  memory: WebAssembly.Memory,
  names: readonly string[],
  count: number,
  scratchBytes: number,
): Promise<string> {
  try {
    await Promise.all(
      Array.from({ length: count - 1 }, (_, i) =>
        threads.add(kernels, memory, CONTROL, SCRATCH + (i + 1) * scratchBytes, names),
      ),
    );
    return '';
  } catch (error) {
    return `worker threads did not start: ${error instanceof Error ? error.message : String(error)}`;
  }
}
