import { LowrankError, type Replayable } from '@lowrank/kernels';
import type { WebGpuBuffer } from './buffer.ts';
import type { Gpu } from './gpu.ts';
import type { Pipeline } from './pipelines.ts';
import type { Profile } from './timing.ts';

/** Bytes of a dispatch's parameters: one slot of the ring, the alignment of dynamic offsets. */
export const slotBytes = 256;
const slotWords = slotBytes / 4;
const ringSlots = 512;
/** Submit after so many dispatches, so that the device starts before the host has finished. */
const batchSize = 256;
const maxGroups = 16384;

/** Storage bindings of a dispatch: windows on buffers, in slot order from binding 1. */
export interface Bindings {
  readonly key: string;
  readonly entries: readonly { readonly buffer: WebGpuBuffer; readonly offset: number; readonly size: number }[];
}

interface Recorded {
  readonly pipeline: Pipeline;
  readonly bindings: Bindings;
  readonly params: Uint32Array;
  readonly size: readonly [number, number, number];
}

interface Prepared {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly offset: number;
  readonly size: readonly [number, number, number];
}

/**
 * The order of work on a device: dispatches go into one compute pass until someone waits or a batch is full. Parameters of a batch are
 * written to a ring of uniform slots by one copy before the submit. Bind groups are cached by buffers.
 */
export class Stream {
  readonly #gpu: Gpu;
  readonly #ring: GPUBuffer;
  readonly #mirror = new Uint32Array(ringSlots * slotWords);
  readonly #groups = new Map<string, GPUBindGroup>();
  /** A plain list: Dawn's binding takes it in a fifth less time than a typed array. */
  readonly #offset: [number] = [0];
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  #slot = 0;
  #count = 0;
  #recording: Recorded[] | undefined;
  #timestamps: GPUComputePassTimestampWrites | undefined;
  /** While there is one, each dispatch is timed by itself. */
  profile: Profile | undefined;
  /** Number of the batch that is being encoded. */
  batch = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#ring = gpu.device.createBuffer({
      label: 'lowrank parameters',
      size: ringSlots * slotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /** Bytes of the ring. */
  get bytes(): number {
    return this.#ring.size;
  }

  get recording(): boolean {
    return this.#recording !== undefined;
  }

  /** Enqueues (or records) one dispatch. `params` are words; at most a slot. */
  dispatch(pipeline: Pipeline, bindings: Bindings, params: Uint32Array, size: readonly [number, number, number]): void {
    if (this.#recording) {
      for (const { buffer } of bindings.entries) buffer.pins++;
      this.#recording.push({ pipeline, bindings, params: params.slice(), size });
      return;
    }
    if (this.#slot === ringSlots) this.flush();
    this.#mirror.set(params, this.#slot * slotWords);
    for (const { buffer } of bindings.entries) buffer.batch = this.batch;
    this.#encode(pipeline.gpu, this.#group(pipeline, bindings), this.#slot++ * slotBytes, size);
    if (this.#count >= batchSize && !this.#timestamps) this.flush();
  }

  #encode(
    pipeline: GPUComputePipeline,
    group: GPUBindGroup,
    offset: number,
    size: readonly [number, number, number],
  ): void {
    if (this.profile) this.endPass();
    const timestampWrites = this.profile?.next(pipeline.label, size) ?? this.#timestamps;
    this.#pass ??= this.encoder.beginComputePass({ label: 'lowrank', ...(timestampWrites && { timestampWrites }) });
    if (this.#pipeline !== pipeline) this.#pass.setPipeline((this.#pipeline = pipeline));
    this.#offset[0] = offset;
    this.#pass.setBindGroup(0, group, this.#offset);
    this.#pass.dispatchWorkgroups(size[0], size[1], size[2]);
    this.#count++;
  }

  #group(pipeline: Pipeline, bindings: Bindings): GPUBindGroup {
    const key = pipeline.layoutKey + bindings.key;
    let group = this.#groups.get(key);
    if (!group) {
      if (this.#groups.size >= maxGroups) this.#groups.clear();
      group = this.#createGroup(pipeline, bindings, this.#ring);
      this.#groups.set(key, group);
      for (const { buffer } of bindings.entries) buffer.groups.push(key);
    }
    return group;
  }

  #createGroup(pipeline: Pipeline, bindings: Bindings, params: GPUBuffer): GPUBindGroup {
    return this.#gpu.device.createBindGroup({
      label: pipeline.label,
      layout: pipeline.layout,
      entries: [
        { binding: 0, resource: { buffer: params, offset: 0, size: slotBytes } },
        ...bindings.entries.map(({ buffer, offset, size }, i) => ({
          binding: i + 1,
          resource: { buffer: buffer.gpu, offset, size },
        })),
      ],
    });
  }

  /** The open command encoder, outside of any pass once the caller has called `endPass`. */
  get encoder(): GPUCommandEncoder {
    this.#gpu.checkAlive();
    return (this.#encoder ??= this.#gpu.device.createCommandEncoder({ label: 'lowrank' }));
  }

  endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#pipeline = undefined;
  }

  /** Submits what was enqueued. */
  flush(): void {
    if (!this.#encoder) return;
    this.endPass();
    if (this.#slot) this.#gpu.queue.writeBuffer(this.#ring, 0, this.#mirror.buffer, 0, this.#slot * slotBytes);
    const commands = this.#encoder.finish();
    this.#encoder = undefined;
    this.#slot = 0;
    this.#count = 0;
    this.batch++;
    this.#gpu.queue.submit([commands]);
  }

  /** Drops cached bind groups of a buffer that goes away. */
  forget(buffer: WebGpuBuffer): void {
    for (const key of buffer.groups.splice(0)) this.#groups.delete(key);
  }

  /** Runs `fn` in a pass of its own with timestamps at both ends. At most as many dispatches as the ring has slots. */
  timed(timestamps: GPUComputePassTimestampWrites, fn: () => void): void {
    this.flush();
    this.#timestamps = timestamps;
    try {
      fn();
    } finally {
      this.endPass();
      this.#timestamps = undefined;
    }
  }

  beginRecording(): void {
    if (this.#recording) throw new LowrankError('record', 'a recording is under way already');
    this.#recording = [];
  }

  /** Drops the recording; gives the buffers that it had pinned. */
  takeRecording(): { list: Recorded[]; buffers: WebGpuBuffer[] } {
    const list = this.#recording;
    if (!list) throw new LowrankError('record', 'no recording is under way');
    this.#recording = undefined;
    return { list, buffers: list.flatMap((d) => d.bindings.entries.map((e) => e.buffer)) };
  }

  /** A prepared list: parameters in a buffer of their own, bind groups made once. `unpin` gets each pinned buffer back. */
  endRecording(unpin: (buffer: WebGpuBuffer) => void): Replayable & { readonly bytes: number } {
    const { list, buffers } = this.takeRecording();
    const device = this.#gpu.device;
    const params = device.createBuffer({
      label: 'lowrank recorded parameters',
      size: Math.max(list.length, 1) * slotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const words = new Uint32Array(params.size / 4);
    const groups = new Map<string, GPUBindGroup>();
    const prepared = list.map(({ pipeline, bindings, params: own, size }, i): Prepared => {
      words.set(own, i * slotWords);
      const key = pipeline.layoutKey + bindings.key;
      let group = groups.get(key);
      if (!group) groups.set(key, (group = this.#createGroup(pipeline, bindings, params)));
      return { pipeline: pipeline.gpu, group, offset: i * slotBytes, size };
    });
    this.#gpu.queue.writeBuffer(params, 0, words);
    const touched = [...new Set(buffers)];
    let open = true;
    return {
      bytes: params.size,
      replay: () => {
        if (!open) throw new LowrankError('record', 'replayed after release');
        this.#gpu.checkAlive();
        for (const buffer of touched) buffer.batch = this.batch;
        for (const d of prepared) this.#encode(d.pipeline, d.group, d.offset, d.size);
        this.flush();
      },
      release: () => {
        if (!open) return;
        open = false;
        params.destroy();
        for (const buffer of buffers) unpin(buffer);
      },
    };
  }
}
