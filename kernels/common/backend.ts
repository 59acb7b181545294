import type { FusedOps, PrimitiveOps } from '../generated/ops.ts';
import type { Collectives } from './collectives.ts';
import type { Call, OpTypes, Spec } from './contract.ts';
import type { DType } from './dtype.ts';
import type { DeviceBuffer } from './view.ts';

export type PrimitiveName = keyof PrimitiveOps;
export type FusedName = keyof FusedOps;

/** Runs one op: reads inputs, writes outputs. Enqueues and returns; never waits for the device. */
export type Kernel<O extends OpTypes> = (call: Call<O>) => void;

/** Why a fused kernel does not take a call. A value, never an exception: exceptions are real errors and propagate. */
export interface Refusal {
  readonly refused: string;
}

export interface FusedKernel<O extends OpTypes> {
  /** Decides on shapes, dtypes, strides and attributes alone. */
  accepts(spec: Spec<O>): true | Refusal;
  /** Bytes of scratch that `run` needs; the caller allocates them, so that they are counted and planned. */
  workspace?(spec: Spec<O>): number;
  readonly run: Kernel<O>;
}

/** Facts about a device that callers may decide on. Never decide on a backend's name. */
export interface Capabilities {
  /** For people: `NVIDIA H200`, `SwiftShader`, `WebAssembly SIMD (relaxed), 2 threads`. */
  readonly device: string;
  /** dtypes that may be stored and moved; computed with (inputs and outputs of arithmetic); multiplied at full speed. */
  readonly dtypes: Readonly<
    Record<DType, { readonly store: boolean; readonly compute: boolean; readonly fastMatmul: boolean }>
  >;
  /** The dtype that training should use when the user says `auto`. */
  readonly preferredCompute: 'f32' | 'f16' | 'bf16';
  readonly limits: {
    /** Largest single allocation, bytes. */
    readonly maxBufferBytes: number;
    /** Device memory in all, bytes, where it can be known. */
    readonly memoryBytes?: number;
  };
  /** Free words for `lowrank info` and for choosing variants: `relaxed-simd`, `shader-f16`, `sm_90a`. */
  readonly features: readonly string[];
  /** True when kernels run after their call returns. */
  readonly asynchronous: boolean;
}

/** Raw memory of a device. The shared pool of `@lowrank/tensor` sits on top of it. All calls are ordered with kernels. */
export interface Memory {
  /** Offsets that the pool hands out are multiples of this many bytes (a power of two, at least 16). */
  readonly alignment: number;
  /** `slab`: many tensors share one buffer (sub-allocated in `slabBytes` pieces); `whole`: a buffer for each tensor, cached by size. */
  readonly pooling: { readonly kind: 'slab'; readonly slabBytes: number } | { readonly kind: 'whole' };
  /** Contents undefined. Throws a LowrankError when the device has no room (what was asked, what is there). */
  allocate(byteLength: number): DeviceBuffer;
  release(buffer: DeviceBuffer): void;
  /** Takes the bytes before it returns; the caller may reuse `data` at once. */
  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void;
  /** Bytes as they are after everything enqueued so far. */
  read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array>;
  copy(from: DeviceBuffer, fromOffset: number, to: DeviceBuffer, toOffset: number, byteLength: number): void;
  readonly offload?: Offload;
  /** Bytes taken from the device now, by the backend's own count (slabs, scratch, code). */
  reservedBytes(): number;
}

/** Bytes that wait in host memory. */
export interface Offloaded {
  readonly byteLength: number;
}

/**
 * Host memory that the device reads and writes by itself, for activations that wait for the backward pass. All calls are ordered with
 * kernels, may be recorded, and return at once; copies run beside kernels, in the order in which they were started.
 */
export interface Offload {
  /** Starts to copy to the host what the device bytes are by then. They must stay as they are until `stored`. */
  store(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Offloaded;
  /** What is enqueued after may overwrite the device bytes given to `store`. */
  stored(entry: Offloaded): void;
  /** Starts to copy back, after everything enqueued so far. Nobody touches the device bytes until `fetched`. May be called again. */
  fetch(entry: Offloaded, buffer: DeviceBuffer, byteOffset: number): void;
  /** What is enqueued after sees the bytes that `fetch` brings. */
  fetched(entry: Offloaded): void;
  /** Gives the host bytes up. No copy of them may be under way: `stored` and `fetched` were called. */
  release(entry: Offloaded): void;
  /** Bytes of host memory held now. */
  hostBytes(): number;
}

/** A recorded list of work. The memory it touches stays reserved until `release`. */
export interface Replayable {
  /** Enqueues the recorded work again. */
  replay(): void;
  release(): void;
}

/** Native recording (a CUDA graph, a prepared dispatch list). Where it is absent the calls are kept in a list and repeated. */
export interface Recorder {
  begin(): void;
  end(): Replayable;
  /** Drops a recording after an error in the middle. */
  abort(): void;
}

/** Everything a device must offer (`primitives`: a hole does not compile) and may offer (`fused`, `record`, `collectives`). */
export interface Backend {
  readonly name: string;
  readonly caps: Capabilities;
  readonly memory: Memory;
  readonly primitives: { readonly [P in PrimitiveName]: Kernel<PrimitiveOps[P]> };
  readonly fused: { readonly [F in FusedName]?: FusedKernel<FusedOps[F]> };
  readonly record?: Recorder;
  readonly collectives?: Collectives;
  /** Variants of kernels that the device refused when they were tried, with what it said; others do their work. */
  readonly refusals?: () => readonly { readonly variant: string; readonly reason: string }[];
  /** Resolves when everything enqueued so far has run; rejects with the device's error if it failed. */
  synchronize(): Promise<void>;
  /** Frees the device. Later calls throw. */
  close(): Promise<void>;
}
