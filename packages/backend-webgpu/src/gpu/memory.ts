import { type DeviceBuffer, LowrankError, type Memory } from '@lowrank/kernels';
import { WebGpuBuffer } from './buffer.ts';
import type { Gpu } from './gpu.ts';
import type { Stream } from './stream.ts';

/** Most staging buffers kept for reads. */
const maxStaging = 8;

/** One GPUBuffer a tensor: WebGPU forbids reading and writing one buffer through two bindings, so tensors do not share buffers. */
export class WebGpuMemory implements Memory {
  readonly alignment = 16;
  readonly pooling = { kind: 'whole' } as const;
  readonly #gpu: Gpu;
  readonly #stream: Stream;
  readonly #staging: GPUBuffer[] = [];
  /** Copies bytes that do not lie on words; set by the backend, which has a kernel for it. */
  copyBytes: (from: WebGpuBuffer, fromOffset: number, to: WebGpuBuffer, toOffset: number, byteLength: number) => void =
    () => {};
  #bytes = 0;

  constructor(gpu: Gpu, stream: Stream) {
    this.#gpu = gpu;
    this.#stream = stream;
    this.#bytes = stream.bytes;
  }

  allocate(byteLength: number): WebGpuBuffer {
    this.#gpu.checkAlive();
    const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
    const most = this.#gpu.device.limits.maxBufferSize;
    if (size > most)
      throw new LowrankError(
        'allocate',
        'larger than the device allows',
        `${size} bytes; largest buffer ${most} bytes`,
        'Lower the batch size or the sequence length, or split the tensor',
      );
    const held = this.#bytes;
    const buffer = new WebGpuBuffer(
      this.#gpu.scoped(
        'out-of-memory',
        () => this.#create(size),
        async (message) =>
          new LowrankError(
            'allocate',
            'out of device memory',
            `asked ${size} bytes beside ${held} held; ${await this.#fitting(size)} more would fit; ${message}`,
            'Lower the batch size or the sequence length, use --recompute block, or quantize the base',
          ),
      ),
    );
    this.#bytes += size;
    return buffer;
  }

  #create(size: number): GPUBuffer {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return this.#gpu.device.createBuffer({ size, usage });
  }

  /** What the device still gives after it refused a buffer of `size`: halves of it are tried. Bytes. */
  async #fitting(size: number): Promise<number> {
    const { device } = this.#gpu;
    for (let part = size / 2; part >= 2 ** 20; part /= 2) {
      const bytes = Math.floor(part / 16) * 16;
      device.pushErrorScope('out-of-memory');
      const trial = this.#create(bytes);
      const refused = await device.popErrorScope();
      trial.destroy();
      if (!refused) return bytes;
    }
    return 0;
  }

  release(buffer: DeviceBuffer): void {
    const b = buffer as WebGpuBuffer;
    if (b.released) return;
    b.released = true;
    if (b.pins === 0) this.#destroy(b);
  }

  /** One use by a recording ends. */
  unpin(buffer: WebGpuBuffer): void {
    if (--buffer.pins === 0 && buffer.released) this.#destroy(buffer);
  }

  #destroy(b: WebGpuBuffer): void {
    if (b.batch === this.#stream.batch) this.#stream.flush();
    this.#stream.forget(b);
    b.gpu.destroy();
    this.#bytes -= b.byteLength;
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void {
    if (this.#stream.recording) throw new LowrankError('record', 'host data cannot be written inside a recorded step');
    const b = buffer as WebGpuBuffer;
    this.#gpu.checkAlive();
    if (data.byteLength === 0) return;
    if (b.batch === this.#stream.batch) this.#stream.flush();
    const end = byteOffset + data.byteLength;
    const whole = byteOffset % 4 === 0 && (end % 4 === 0 || Math.ceil(end / 16) * 16 === b.byteLength);
    if (whole) {
      this.#writeWords(b, byteOffset, data);
      return;
    }
    // Neighbours share a word: the bytes go through a buffer of their own, and a kernel puts them in place.
    const own = this.allocate(data.byteLength);
    this.#writeWords(own, 0, data);
    this.copyBytes(own, 0, b, byteOffset, data.byteLength);
    this.release(own);
  }

  /** `byteOffset` on a word; bytes after the end, up to the next word, become 0. */
  #writeWords(b: WebGpuBuffer, byteOffset: number, data: Uint8Array): void {
    const body = data.byteLength - (data.byteLength % 4);
    const queue = this.#gpu.queue;
    if (body) queue.writeBuffer(b.gpu, byteOffset, data.buffer as ArrayBuffer, data.byteOffset, body);
    if (body === data.byteLength) return;
    const tail = new Uint8Array(4);
    tail.set(data.subarray(body));
    queue.writeBuffer(b.gpu, byteOffset + body, tail);
  }

  async read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    if (this.#stream.recording) throw new LowrankError('record', 'nothing can be read inside a recorded step');
    const b = buffer as WebGpuBuffer;
    this.#gpu.checkAlive();
    if (byteLength === 0) return new Uint8Array(0);
    const from = byteOffset - (byteOffset % 4);
    const size = Math.ceil((byteOffset + byteLength - from) / 4) * 4;
    const staging = this.#takeStaging(size);
    this.#stream.endPass();
    this.#stream.encoder.copyBufferToBuffer(b.gpu, from, staging, 0, size);
    this.#stream.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, size);
      const bytes = new Uint8Array(
        staging.getMappedRange(0, size).slice(byteOffset - from, byteOffset - from + byteLength),
      );
      staging.unmap();
      this.#giveStaging(staging);
      await this.#gpu.settle();
      return bytes;
    } catch (error) {
      if (error instanceof LowrankError) throw error;
      throw await this.#gpu.explain(error, 'read');
    }
  }

  #takeStaging(size: number): GPUBuffer {
    const at = this.#staging.findIndex((s) => s.size >= size && s.size <= 4 * size + 4096);
    if (at >= 0) return this.#staging.splice(at, 1)[0]!;
    const rounded = size <= 2 ** 26 ? Math.max(256, 2 ** Math.ceil(Math.log2(size))) : Math.ceil(size / 4) * 4;
    this.#bytes += rounded;
    return this.#gpu.device.createBuffer({
      label: 'lowrank read',
      size: rounded,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  #giveStaging(staging: GPUBuffer): void {
    this.#staging.push(staging);
    const extra = this.#staging.length > maxStaging ? this.#staging.shift() : undefined;
    if (!extra) return;
    this.#bytes -= extra.size;
    extra.destroy();
  }

  copy(from: DeviceBuffer, fromOffset: number, to: DeviceBuffer, toOffset: number, byteLength: number): void {
    if (byteLength > 0) this.copyBytes(from as WebGpuBuffer, fromOffset, to as WebGpuBuffer, toOffset, byteLength);
  }

  reservedBytes(): number {
    return this.#bytes;
  }
}
