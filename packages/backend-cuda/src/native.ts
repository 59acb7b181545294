/**
 * The addon's functions. Handles are numbers that name an object and its generation: a released, foreign or invented one is an error with
 * `code` `LOWRANK_BAD_HANDLE`. Errors of the driver carry its name in `code` (`CUDA_ERROR_OUT_OF_MEMORY`) and the operation in `op`.
 */
export type Handle = number;

export interface DriverFound {
  readonly ok: true;
  readonly driver: Handle;
  /** The library's file. */
  readonly path: string;
  /** 13000 is CUDA 13.0. */
  readonly version: number;
  readonly deviceCount: number;
}

export interface Missing {
  readonly ok: false;
  readonly code?: 'no-driver' | 'old-driver' | 'no-device' | 'init-failed';
  readonly reason: string;
}

export interface DeviceInfo {
  readonly name: string;
  readonly ordinal: number;
  readonly memoryBytes: number;
  readonly multiprocessors: number;
  readonly computeMajor: number;
  readonly computeMinor: number;
  readonly l2Bytes: number;
  /** Shared memory that one block may ask for. */
  readonly sharedBytes: number;
  readonly clockKHz: number;
  readonly memoryClockKHz: number;
  readonly memoryBusBits: number;
  readonly pciBus: number;
  readonly pciDevice: number;
}

export interface DeviceStatus {
  /** Allocated through this device's handle and not yet released. */
  readonly deviceBytes: number;
  /** Pinned host memory. */
  readonly hostBytes: number;
  /** By the driver, for all processes. */
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly objects: number;
  /** Reads and waits under way. */
  readonly pending: number;
}

export interface KernelInfo {
  readonly handle: Handle;
  readonly registers: number;
  readonly localBytes: number;
  readonly sharedBytes: number;
  readonly maxThreads: number;
}

/** A product D[m,n] = alpha · op(A)·op(B) + beta · D of row-major matrices. Types are cudaDataType codes; strides are in elements. */
export interface PlanOptions {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly typeA: number;
  readonly typeB: number;
  readonly typeD: number;
  readonly tf32?: boolean;
  readonly lda?: number;
  readonly ldb?: number;
  readonly ldd?: number;
  readonly batch?: number;
  readonly strideA?: number;
  readonly strideB?: number;
  readonly strideD?: number;
  /** Adds a vector [n] of type `typeBias`. */
  readonly bias?: boolean;
  readonly typeBias?: number;
  /** FP8: a scale for each row of op(A) and each column of op(B), else one for each tensor. */
  readonly rowScales?: boolean;
  readonly workspaceBytes: number;
  /** How many algorithms to ask for. */
  readonly candidates?: number;
  /** Bytes that every address and pitch is a multiple of. */
  readonly align?: number;
}

export interface Plan {
  readonly handle: Handle;
  readonly algos: readonly { readonly workspaceBytes: number; readonly waves: number }[];
}

export interface Native {
  readonly abi: number;
  loadDriver(paths: readonly string[]): DriverFound | Missing;
  deviceInfo(driver: Handle, ordinal: number): DeviceInfo;
  openDevice(driver: Handle, ordinal: number): Handle;
  /** Frees what is left; tells how much device memory that was. */
  closeDevice(device: Handle): { readonly memories: number; readonly bytes: number };
  deviceStatus(device: Handle): DeviceStatus;
  streamCreate(device: Handle): Handle;
  synchronize(stream: Handle): Promise<void>;
  eventCreate(device: Handle, timing: boolean): Handle;
  /** Milliseconds; undefined while the end has not passed. */
  eventElapsed(start: Handle, end: Handle): number | undefined;
  /** A stream, event, memory, host memory, graph or plan. */
  release(handle: Handle): void;
  allocate(device: Handle, bytes: number): Handle;
  /** Pinned memory; the array is detached when the handle is released. */
  hostAllocate(device: Handle, bytes: number): { readonly handle: Handle; readonly array: ArrayBuffer };
  write(stream: Handle, memory: Handle, offset: number, data: Uint8Array): void;
  read(stream: Handle, memory: Handle, offset: number, bytes: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Runs a packed list (`runtime/commands.ts`). */
  submit(stream: Handle, commands: Uint8Array): void;
  moduleLoad(device: Handle, image: Uint8Array, name: string): Handle;
  functionGet(module: Handle, name: string): KernelInfo;
  captureBegin(stream: Handle): void;
  captureEnd(stream: Handle, name: string): { readonly handle: Handle; readonly nodes: number };
  captureAbort(stream: Handle): void;
  graphLaunch(graph: Handle, stream: Handle): void;
  loadBlas(
    device: Handle,
    paths: readonly string[],
  ): { readonly ok: true; readonly path: string; readonly version: number } | Missing;
  matmulPlan(device: Handle, options: PlanOptions): Plan;
  matmulChoose(plan: Handle, index: number): void;
  matmulAlgo(plan: Handle): Uint8Array;
  matmulUse(plan: Handle, algorithm: Uint8Array, workspaceBytes: number): boolean;
  /** For the life of the process; needs no device. */
  loadNccl(paths: readonly string[]): { readonly ok: true; readonly path: string; readonly version: number } | Missing;
  ncclId(): Uint8Array;
  /** Resolves to the group's handle once all ranks are there. */
  commJoin(device: Handle, rank: number, size: number, id: Uint8Array, timeoutMs: number): Promise<Handle>;
  /** Resolves when all ranks have left; the handle is dead then, and also where it rejects. */
  commLeave(group: Handle): Promise<void>;
}

/** The addon's version that this package speaks with. */
export const nativeAbi = 2;
