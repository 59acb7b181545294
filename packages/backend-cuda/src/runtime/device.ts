import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LowrankError, type View } from '@lowrank/kernels';
import { openDriver, refusalOf } from '../available.ts';
import { type Binaries, blasPaths, findBinaries, type KernelManifest, loadNative, readManifest } from '../locate.ts';
import type { DeviceInfo, Handle, KernelInfo, Native } from '../native.ts';
import { fillView } from '../primitives/elementwise.ts';
import { CommandList, type Range } from './commands.ts';
import type { CudaBuffer } from './memory.ts';
import { CudaOffload } from './offload.ts';

export interface CudaOptions {
  /** Which GPU, as the driver counts; the first that can be used where absent. */
  readonly device?: number;
  /** Multiply f32 on the tensor cores (10-bit mantissas). Off by default: results would not agree with other backends. */
  readonly tf32?: boolean;
}

/** Commands that are held before the addon is called; a call of its own costs about as much as five commands. */
const batch = 16;
/** Scratch of cuBLASLt: split-K sums and the like. */
const blasWorkspaceBytes = 32 << 20;
/** Partial sums of large reductions, f32. */
const partialBytes = 4 << 20;

interface DriverError extends Error {
  readonly code?: string;
  readonly op?: string;
}

/** An open GPU: one stream that everything is ordered on, the loaded kernels, and the commands that wait to be submitted. */
export class CudaDevice {
  readonly native: Native;
  readonly handle: Handle;
  readonly stream: Handle;
  readonly info: DeviceInfo;
  readonly driverVersion: number;
  readonly blas: { readonly path: string; readonly version: number };
  readonly commands = new CommandList();
  /** Tensors that wait in host memory. */
  readonly offload: CudaOffload;
  readonly tf32: boolean;
  /** `LOWRANK_CUDA_SYNC`: each launch is waited for, so that an error names the launch that made it. */
  readonly syncEachLaunch = !['', '0'].includes(process.env.LOWRANK_CUDA_SYNC ?? '');
  /** Bytes taken from the driver. */
  reservedBytes = 0;
  recording = false;
  /** Groups that were joined and not left. */
  groups = 0;
  /** Kernels for sm_90a are taken where there are any. */
  hopper: boolean;

  readonly #binaries: Binaries;
  readonly #manifest: KernelManifest;
  readonly #modules = new Map<string, Handle>();
  readonly #kernels = new Map<string, KernelInfo>();
  #flushPlanned = false;
  #closed = false;
  /** Scratch of cuBLASLt's products. */
  readonly blasWorkspace: Range;
  /** Room for partial sums, f32; its contents last until the next op that uses it. */
  readonly partials: Range;

  private constructor(
    native: Native,
    handle: Handle,
    info: DeviceInfo,
    driverVersion: number,
    blas: { path: string; version: number },
    binaries: Binaries,
    tf32: boolean,
  ) {
    this.native = native;
    this.handle = handle;
    this.info = info;
    this.driverVersion = driverVersion;
    this.blas = blas;
    this.tf32 = tf32;
    this.hopper = info.computeMajor === 9 && info.computeMinor === 0 && process.env.LOWRANK_CUDA_HOPPER !== '0';
    this.#binaries = binaries;
    this.#manifest = readManifest(binaries);
    this.stream = native.streamCreate(handle);
    this.offload = new CudaOffload(this);
    // Taken at once: a run that does not fit then fails where it asks for its own memory, and no recording owns scratch.
    const scratch = (bytes: number): Range => ({ memory: this.allocate(bytes).handle, offset: 0, bytes });
    this.blasWorkspace = scratch(blasWorkspaceBytes);
    this.partials = scratch(partialBytes);
    for (const range of [this.blasWorkspace, this.partials]) this.commands.fill(range, 0, 4);
    this.flush();
  }

  /** Throws a LowrankError that says what is missing. */
  static open({ device, tf32 = false }: CudaOptions): CudaDevice {
    const opened = openDriver();
    if (!opened.ok)
      throw new LowrankError(
        'cuda',
        'there is no CUDA device to run on',
        opened.reason,
        'Take --backend cpu, or webgpu',
      );
    const { native, driver } = opened;
    if (device !== undefined && !(Number.isInteger(device) && device >= 0 && device < driver.deviceCount))
      throw new LowrankError('cuda', 'no such device', `device ${device} of ${driver.deviceCount}`);
    const infos = Array.from({ length: driver.deviceCount }, (_, i) => native.deviceInfo(driver.driver, i));
    const ordinal =
      device ??
      Math.max(
        0,
        infos.findIndex((i) => !refusalOf(i)),
      );
    const refusal = refusalOf(infos[ordinal]!);
    if (refusal) throw new LowrankError('cuda', 'the GPU is too old', refusal);
    const binaries = findBinaries();
    if ('reason' in binaries) throw new LowrankError('cuda', 'there is no CUDA device to run on', binaries.reason);
    loadNative(binaries);
    const handle = native.openDevice(driver.driver, ordinal);
    try {
      const blas = native.loadBlas(handle, blasPaths());
      if (!blas.ok)
        throw new LowrankError(
          'cuda',
          'cuBLASLt is missing',
          blas.reason,
          'Install the CUDA 12 or 13 libraries (or pip install nvidia-cublas), or set LOWRANK_CUBLASLT to the file',
        );
      return new CudaDevice(native, handle, infos[ordinal]!, driver.version, blas, binaries, tf32);
    } catch (error) {
      native.closeDevice(handle);
      throw error;
    }
  }

  /** 90 for compute capability 9.0. */
  get capability(): number {
    return this.info.computeMajor * 10 + this.info.computeMinor;
  }

  /** True when the manifest has the kernel (variants for one architecture may be left out of a build). */
  has(kernel: string): boolean {
    return this.#manifest.kernels[kernel] !== undefined;
  }

  kernel(name: string): KernelInfo {
    let kernel = this.#kernels.get(name);
    if (!kernel) {
      const module = this.#manifest.kernels[name];
      if (!module)
        throw new LowrankError(
          'cuda',
          'no such kernel',
          name,
          'Build the kernels again: node scripts/build.mjs --kernels',
        );
      let loaded = this.#modules.get(module);
      if (loaded === undefined) {
        const image = readFileSync(join(this.#binaries.kernels, `${module}.fatbin`));
        loaded = this.call(() => this.native.moduleLoad(this.handle, image, module));
        this.#modules.set(module, loaded);
      }
      const handle = loaded;
      kernel = this.call(() => this.native.functionGet(handle, name));
      this.#kernels.set(name, kernel);
    }
    return kernel;
  }

  /** Begins a launch; write the parameters and call `done` with the list. */
  launch(
    name: string,
    grid: readonly [x: number, y?: number, z?: number],
    threads: number,
    sharedBytes = 0,
    threadsY = 1,
  ): CommandList {
    return this.commands.launch(
      this.kernel(name).handle,
      grid[0],
      grid[1] ?? 1,
      grid[2] ?? 1,
      threads,
      sharedBytes,
      threadsY,
    );
  }

  /** Ends a launch. */
  done(list: CommandList): void {
    list.end();
    this.enqueued();
  }

  /** y = value. */
  fill(y: View, value: number): void {
    fillView(this, y, value);
  }

  /** Blocks of 256 threads for `items` pieces of work, each thread taking several where there are many. */
  blocks(items: number, threads = 256): number {
    return Math.max(1, Math.min(Math.ceil(items / threads), this.info.multiprocessors * 16));
  }

  /** A command was added. It is submitted with its neighbours, at the latest when the caller's turn ends. */
  enqueued(): void {
    if (this.commands.count >= batch) return this.flush();
    if (this.#flushPlanned || this.recording) return;
    this.#flushPlanned = true;
    queueMicrotask(() => {
      this.#flushPlanned = false;
      if (this.#closed || this.commands.count === 0) return;
      try {
        this.flush();
      } catch (error) {
        // Nobody called: the next call on the device throws it.
        this.#failure ??= error as Error;
      }
    });
  }

  #failure: Error | undefined;

  flush(): void {
    this.check();
    if (this.commands.count === 0) return;
    try {
      this.call(() => this.native.submit(this.stream, this.commands.packed));
    } finally {
      this.commands.clear();
    }
  }

  /** Throws when the device is closed or an earlier submission failed. */
  check(): void {
    if (this.#closed) throw new LowrankError('cuda', 'the device was closed');
    if (this.#failure) {
      const failure = this.#failure;
      this.#failure = undefined;
      throw failure;
    }
  }

  /** Calls the addon; its errors become LowrankErrors. */
  call<T>(f: () => T): T {
    if (this.#closed) throw new LowrankError('cuda', 'the device was closed');
    try {
      return f();
    } catch (error) {
      throw this.#wrap(error);
    }
  }

  /** The same for a promise of the addon. */
  async pending<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw this.#wrap(error);
    }
  }

  #wrap(error: unknown): unknown {
    const { code, op, message } = error as DriverError;
    if (error instanceof LowrankError || !code || !op) return error;
    const text = message.startsWith(`${op}: `) ? message.slice(op.length + 2) : message;
    const hint =
      code === 'CUDA_ERROR_OUT_OF_MEMORY'
        ? 'Lower the batch size or the sequence length, or free what other processes hold'
        : code === 'LOWRANK_GROUP_FAILED'
          ? 'See what the other ranks say: one of them failed, or called another collective'
          : '';
    return Object.assign(new LowrankError(op, text, '', hint, { cause: error }), { code });
  }

  allocate(byteLength: number): CudaBuffer {
    this.check();
    const handle = this.call(() => this.native.allocate(this.handle, Math.max(byteLength, 1)));
    this.reservedBytes += byteLength;
    return { handle, byteLength };
  }

  release(buffer: CudaBuffer): void {
    if (!this.recording) this.flush();
    this.call(() => this.native.release(buffer.handle));
    this.reservedBytes -= buffer.byteLength;
  }

  async synchronize(): Promise<void> {
    this.flush();
    await this.pending(this.call(() => this.native.synchronize(this.stream)));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    let failure: unknown;
    try {
      // Whoever closes within a group gives it up: what it waits for may never come.
      if (this.groups === 0) await this.synchronize();
    } catch (error) {
      failure = error;
    }
    this.#closed = true;
    this.native.closeDevice(this.handle);
    if (failure && !String((failure as DriverError).code).startsWith('CUDA_ERROR')) throw failure;
  }
}
