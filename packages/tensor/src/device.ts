import {
  type Backend,
  type Call,
  type DType,
  type FusedName,
  type Kernel,
  LowrankError,
  type OpTypes,
  type PrimitiveName,
  type PrimitiveOps,
  specOf,
} from '@lowrank/kernels';
import { encode, type HostData, shapeOfData } from './host.ts';
import { OffloadQueue } from './memory/offload-queue.ts';
import { type MemoryClass, type MemoryStatistics, Pool, type Scratch } from './memory/pool.ts';
import { Storage } from './memory/storage.ts';
import { beginRecording, type RecordedCalls, type Recording } from './record.ts';
import { Tensor } from './tensor.ts';

/** `auto` takes fused kernels where the backend accepts them; `off` always decomposes; `require` throws where one is missing or refuses. */
export type FusedMode = 'auto' | 'off' | 'require';

/** Why a fused op ran as primitives, or which variant of its kernels a device refused. */
export interface Fallback {
  readonly op: FusedName | `variant ${string}`;
  readonly reason: string;
  /** Calls of the op; 0 of a variant. */
  readonly count: number;
}

export interface DeviceOptions {
  readonly fused?: FusedMode;
}

/** A backend with a memory pool: where tensors live. */
export class Device implements AsyncDisposable {
  readonly backend: Backend;
  readonly pool: Pool;
  readonly fused: FusedMode;
  /** Internal: tensors that wait in host memory, where the backend can. */
  readonly offloads: OffloadQueue | undefined;
  readonly #fallbacks = new Map<string, { op: FusedName; reason: string; count: number }>();
  #class: MemoryClass = 'activations';
  #recording: RecordedCalls | undefined;
  #closed = false;

  constructor(backend: Backend, options: DeviceOptions = {}) {
    this.backend = backend;
    this.pool = new Pool(backend.memory);
    this.fused = options.fused ?? 'auto';
    this.offloads = backend.memory.offload && new OffloadQueue(backend.memory.offload);
  }

  /** Everything allocated in `fn` (not async) is counted under `cls`. */
  withClass<T>(cls: MemoryClass, fn: () => T): T {
    const before = this.#class;
    this.#class = cls;
    try {
      return fn();
    } finally {
      this.#class = before;
    }
  }

  /** A tensor from numbers: nested arrays give their shape, flat ones take `shape`. dtype f32 unless said or the array is typed. */
  tensor(data: HostData, options: { shape?: readonly number[]; dtype?: DType } = {}): Tensor {
    const dtype =
      options.dtype ??
      (data instanceof Int32Array
        ? 'i32'
        : data instanceof Uint32Array
          ? 'u32'
          : data instanceof Uint8Array
            ? 'u8'
            : 'f32');
    return this.fromBytes(encode(data, dtype), dtype, options.shape ?? shapeOfData(data));
  }

  /** A tensor from raw little-endian bytes. */
  fromBytes(bytes: Uint8Array, dtype: DType, shape: readonly number[]): Tensor {
    const t = this.empty(shape, dtype);
    if (t.byteLength !== bytes.byteLength) {
      const expected = t.byteLength;
      t.dispose();
      throw new LowrankError(
        'tensor',
        'data do not fill the shape',
        `${bytes.byteLength} bytes for [${shape}] ${dtype} (${expected} bytes)`,
      );
    }
    try {
      this.write(t, bytes);
    } catch (error) {
      t.dispose();
      throw error;
    }
    return t;
  }

  /** Replaces the contents of a contiguous tensor. Ordered with kernels; not allowed while recording. */
  write(t: Tensor, data: Uint8Array | HostData): void {
    if (this.#recording)
      throw new LowrankError(
        'record',
        'host data cannot be written inside a recorded step',
        String(t),
        'Make the tensor before, and write to it between replays',
      );
    if (!t.isContiguous) throw new LowrankError('write', 'needs a contiguous tensor', String(t));
    const bytes =
      data instanceof Uint8Array && (t.dtype === 'u8' || data.byteLength === t.byteLength)
        ? data
        : encode(data as HostData, t.dtype);
    if (bytes.byteLength !== t.byteLength)
      throw new LowrankError('write', 'sizes differ', `${bytes.byteLength} bytes into ${t}`);
    if (bytes.byteLength) this.backend.memory.write(t.view.buffer, t.view.byteOffset, bytes);
  }

  /** A contiguous tensor with undefined contents. */
  empty(shape: readonly number[], dtype: DType = 'f32', cls: MemoryClass = this.#class): Tensor {
    const spec = specOf(shape, dtype);
    const bytes = spec.shape.reduce((p, d) => p * d, 1) * { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, u8: 1 }[dtype];
    return new Tensor(new Storage(this, bytes, cls), dtype, spec.shape, spec.strides);
  }

  full(shape: readonly number[], value: number, dtype: DType = 'f32'): Tensor {
    const y = this.empty(shape, dtype);
    this.runPrimitive('fill', { inputs: {}, outputs: { y: y.view }, attrs: { shape, dtype, value } });
    return y;
  }

  zeros(shape: readonly number[], dtype: DType = 'f32'): Tensor {
    return this.full(shape, 0, dtype);
  }

  /** start, start + step, … along the only axis. */
  arange(length: number, options: { start?: number; step?: number; dtype?: DType } = {}): Tensor {
    const dtype = options.dtype ?? 'i32';
    const y = this.empty([length], dtype);
    this.runPrimitive('iota', {
      inputs: {},
      outputs: { y: y.view },
      attrs: { shape: [length], dtype, axis: 0, start: options.start ?? 0, step: options.step ?? 1 },
    });
    return y;
  }

  /** The `seed` operand of random ops: u32 [4] = seedLo, seedHi, step, stream. */
  seed(seed: number, step = 0, stream = 0): Tensor {
    return this.tensor(Uint32Array.of(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, step, stream), { dtype: 'u32' });
  }

  /** Normal (default) or uniform numbers, by Philox. */
  random(
    shape: readonly number[],
    options: { seed: number | Tensor; site?: number; distribution?: 'normal' | 'uniform'; dtype?: DType },
  ): Tensor {
    const y = this.empty(shape, options.dtype ?? 'f32');
    const own = typeof options.seed === 'number' ? this.seed(options.seed) : undefined;
    const seed = own ?? (options.seed as Tensor);
    this.runPrimitive('random', {
      inputs: { seed: seed.view },
      outputs: { y: y.view },
      attrs: { shape, dtype: y.dtype, distribution: options.distribution ?? 'normal', site: options.site ?? 0 },
    });
    own?.dispose();
    return y;
  }

  /** Internal: runs or records a primitive. */
  runPrimitive<P extends PrimitiveName>(name: P, call: Call<PrimitiveOps[P]>): void {
    this.run(name, this.backend.primitives[name] as unknown as Kernel<never>, call);
  }

  /** Internal: runs or records a kernel. */
  run(name: string, kernel: Kernel<never>, call: Call<OpTypes>): void {
    if (this.#closed) throw new LowrankError(name, 'the device is closed');
    if (this.#recording?.deferred) this.#recording.calls.push({ kernel, call: call as Call<never> });
    else kernel(call as Call<never>);
  }

  /** Internal: a fused op took its decomposition. */
  noteFallback(op: FusedName, reason: string): void {
    const key = `${op}\n${reason}`;
    const there = this.#fallbacks.get(key);
    if (there) there.count++;
    else this.#fallbacks.set(key, { op, reason, count: 1 });
  }

  /** Which variants of kernels the device refused, which fused ops ran as primitives, and why. */
  explain(): Fallback[] {
    const refused = this.backend.refusals?.() ?? [];
    return [
      ...refused.map(({ variant, reason }) => ({ op: `variant ${variant}`, reason, count: 0 }) as const),
      ...[...this.#fallbacks.values()].map((f) => ({ ...f })),
    ];
  }

  /**
   * Records what `fn` enqueues, without running it; `replay()` runs it, as often as wanted, with the same memory. Shapes, tensors and
   * attributes are fixed; contents are read anew each time. What `fn` returns stays valid and holds the results of the last replay.
   * Recordings that leave no tensor behind may share the memory of one `scratch`.
   */
  record<T>(fn: () => T, scratch?: Scratch): Recording<T> {
    const open = beginRecording(this, scratch);
    this.#recording = open.recorded;
    try {
      const result = fn();
      this.#recording = undefined;
      return open.finish(result);
    } catch (error) {
      this.#recording = undefined;
      open.abort();
      throw error;
    }
  }

  /**
   * Memory in which runs that leave no tensor behind take turns. Whoever makes one disposes it. `forget` is called when sizes that recordings
   * hold stand in the way of others: it should dispose recordings.
   */
  scratch(forget: () => void = () => {}): Scratch {
    return this.pool.scratch(forget);
  }

  get recording(): boolean {
    return this.#recording !== undefined;
  }

  memory(): MemoryStatistics {
    return this.pool.statistics();
  }

  synchronize(): Promise<void> {
    return this.backend.synchronize();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.backend.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
