import type { DeviceBuffer } from '@lowrank/kernels';

let nextId = 0;

/** A GPUBuffer with what the caches must know of it. */
export class WebGpuBuffer implements DeviceBuffer {
  readonly byteLength: number;
  readonly gpu: GPUBuffer;
  readonly id = nextId++;
  /** The batch of commands that used it last; it may not be submitted yet. */
  batch = -1;
  /** Recordings that use it: it lives until they are released. */
  pins = 0;
  released = false;
  /** Keys of cached bind groups that hold it. */
  readonly groups: string[] = [];

  constructor(gpu: GPUBuffer) {
    this.gpu = gpu;
    this.byteLength = gpu.size;
  }
}
