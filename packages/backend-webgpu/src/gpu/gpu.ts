import { LowrankError } from '@lowrank/kernels';

/** A device with the errors it reports. WebGPU reports late: an error found after the fact is kept, and thrown by the next wait. */
export class Gpu {
  readonly device: GPUDevice;
  readonly queue: GPUQueue;
  /** Largest storage binding, bytes. */
  readonly maxBinding: number;
  /** Most storage buffers that one kernel may have. */
  readonly maxStorageBuffers: number;
  /** Bytes of workgroup memory that a kernel may declare. */
  readonly workgroupBytes: number;
  readonly features: ReadonlySet<string>;
  #lost: LowrankError | undefined;
  #failure: LowrankError | undefined;
  #failureIsCause = false;
  readonly #pending = new Set<Promise<void>>();

  constructor(device: GPUDevice, maxBinding = device.limits.maxStorageBufferBindingSize) {
    this.device = device;
    this.queue = device.queue;
    this.maxBinding = maxBinding;
    this.maxStorageBuffers = device.limits.maxStorageBuffersPerShaderStage;
    this.workgroupBytes = device.limits.maxComputeWorkgroupStorageSize;
    this.features = new Set(device.features);
    device.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      const { message } = event.error;
      this.fail(
        new LowrankError(
          /lowrank (\w+)/.exec(message)?.[1] ?? 'webgpu',
          'the device refused a command',
          firstLines(message),
        ),
      );
    });
    // `close` has said so before: a device that is destroyed otherwise is as lost as one whose driver failed.
    void device.lost.then(({ message }) => {
      this.#lost ??= new LowrankError(
        'webgpu',
        'the device was lost',
        message.trim(),
        'Open the backend again and resume from the last checkpoint',
      );
    });
  }

  /** Keeps the first error until someone waits. What a scope caught is the cause of what the device refuses later, and goes before it. */
  fail(error: LowrankError, cause = false): void {
    if (!this.#failure || (cause && !this.#failureIsCause)) {
      this.#failure = error;
      this.#failureIsCause = cause;
    }
  }

  /** No later call may use the device. */
  close(): void {
    this.#lost ??= new LowrankError('webgpu', 'the device was closed');
    this.device.destroy();
  }

  /** Throws when the device is gone. Cheap: called before every command. */
  checkAlive(): void {
    if (this.#lost) throw this.#lost;
  }

  /** Runs `make` under an error scope; an error is kept, to be thrown by the next wait. */
  scoped<T>(
    filter: GPUErrorFilter,
    make: () => T,
    explain: (message: string) => LowrankError | Promise<LowrankError>,
  ): T {
    this.device.pushErrorScope(filter);
    const result = make();
    const pending = this.device.popErrorScope().then(
      async (error) => {
        if (error) this.fail(await explain(firstLines(error.message)), true);
      },
      () => {}, // the device is gone, and says so itself
    );
    this.#pending.add(pending);
    void pending.then(() => this.#pending.delete(pending));
    return result;
  }

  /** Waits for the scopes that are open, then throws what they or the device reported. An error is reported once; a lost device always. */
  async settle(): Promise<void> {
    while (this.#pending.size) await Promise.all(this.#pending);
    this.throwFailure();
  }

  throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
    this.checkAlive();
  }

  /** For a rejected promise: what the device said, or the rejection itself. */
  async explain(error: unknown, op: string): Promise<LowrankError> {
    // what waited is rejected before the device says that it is gone
    await Promise.race([this.device.lost, new Promise((done) => setTimeout(done, 200))]);
    try {
      await this.settle();
    } catch (known) {
      return known as LowrankError;
    }
    return new LowrankError(op, 'the device failed', String(error));
  }
}

function firstLines(message: string): string {
  return message.split('\n').slice(0, 6).join(' ').trim();
}
