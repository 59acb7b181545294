import type { Handle } from '../native.ts';

const LAUNCH = 1;
const FILL = 2;
const COPY = 3;
const MATMUL = 4;
const USE_STREAM = 5;
const RECORD = 6;
const WAIT = 7;
const HOST_TO_DEVICE = 8;
const DEVICE_TO_HOST = 9;
const COLLECTIVE = 10;

/** An op of a group (native/collectives.cc); `dtype` and `reduction` as NCCL counts. */
export interface CollectiveCommand {
  readonly group: Handle;
  /** allReduce, allGather, reduceScatter, broadcast. */
  readonly kind: 0 | 1 | 2 | 3;
  readonly dtype: number;
  readonly reduction: number;
  readonly root: number;
  /** Elements of x, of reduceScatter those of y. */
  readonly count: number;
  readonly x: Pick<Range, 'memory' | 'offset'>;
  readonly y: Pick<Range, 'memory' | 'offset'>;
}

/** A range of device memory. */
export interface Range {
  readonly memory: Handle;
  readonly offset: number;
  readonly bytes: number;
}

/** Most axes that a strided kernel walks (`maxRank` of kernels/common/cuda/common.cuh). */
export const maxRank = 6;

/** A bulk tensor copy's descriptor: a window of `box` elements on a tensor of up to five axes, innermost first. */
export interface TensorMap {
  readonly range: Range;
  /** CUtensorMapDataType: 6 f16, 7 f32, 9 bf16. */
  readonly dataType: number;
  readonly dims: readonly number[];
  /** Bytes between neighbours on axes 1, 2, … */
  readonly strides: readonly number[];
  readonly box: readonly number[];
  /** CUtensorMapSwizzle: 0 none, 3 128 bytes. */
  readonly swizzle: number;
}

/**
 * A list of device commands in the layout that the addon reads (native/commands.cc): one call of the addon runs them all. Kernel parameters
 * are written in order at their natural alignment; pointers are written as memory handles and ranges, which the addon checks and resolves.
 */
export class CommandList {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  #start = 0;
  #args = 0;
  #relocations: ({ at: number; optional: boolean; range: Range | undefined } | { at: number; map: TensorMap })[] = [];
  /** Commands in the list. */
  count = 0;

  /** The packed list; valid until the next command. */
  get packed(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  clear(): void {
    this.#at = 0;
    this.count = 0;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + bytes));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  #u32(v: number): void {
    this.#view.setUint32(this.#at, v, true);
    this.#at += 4;
  }

  #f64(v: number): void {
    this.#view.setFloat64(this.#at, v, true);
    this.#at += 8;
  }

  #range(r: Range): void {
    this.#f64(r.memory);
    this.#f64(r.offset);
    this.#f64(r.bytes);
  }

  #open(op: number): void {
    this.#reserve(8192);
    this.#start = this.#at;
    this.#u32(op);
    this.#u32(0);
  }

  #close(): void {
    this.#view.setUint32(this.#start + 4, this.#at - this.#start, true);
    this.count++;
  }

  /** Begins a launch; parameters follow, then {@link end}. */
  launch(
    kernel: Handle,
    gridX: number,
    gridY: number,
    gridZ: number,
    threads: number,
    sharedBytes = 0,
    threadsY = 1,
  ): this {
    this.#open(LAUNCH);
    this.#f64(kernel);
    this.#u32(gridX);
    this.#u32(gridY);
    this.#u32(gridZ);
    this.#u32(threads);
    this.#u32(threadsY);
    this.#u32(1);
    this.#u32(sharedBytes);
    this.#at += 12; // argument bytes, relocations, padding: written by end()
    this.#args = this.#at;
    this.#relocations = [];
    return this;
  }

  #align(bytes: number): void {
    const over = (this.#at - this.#args) % bytes;
    if (over === 0) return;
    this.#bytes.fill(0, this.#at, this.#at + bytes - over);
    this.#at += bytes - over;
  }

  /** Where a struct begins: its members' alignment. */
  align(bytes: number): this {
    this.#align(bytes);
    return this;
  }

  pointer(range: Range): this {
    this.#align(8);
    this.#relocations.push({ at: this.#at - this.#args, optional: false, range });
    this.#at += 8;
    return this;
  }

  optionalPointer(range: Range | undefined): this {
    this.#align(8);
    this.#relocations.push({ at: this.#at - this.#args, optional: true, range });
    this.#at += 8;
    return this;
  }

  tensorMap(map: TensorMap): this {
    this.#align(64);
    this.#relocations.push({ at: this.#at - this.#args, map });
    this.#at += 128;
    return this;
  }

  i32(v: number): this {
    this.#align(4);
    this.#view.setInt32(this.#at, v, true);
    this.#at += 4;
    return this;
  }

  u32(v: number): this {
    this.#align(4);
    this.#view.setUint32(this.#at, v, true);
    this.#at += 4;
    return this;
  }

  /** A whole number that f64 holds exactly. */
  i64(v: number): this {
    this.#align(8);
    this.#view.setUint32(this.#at, v >>> 0, true);
    this.#view.setInt32(this.#at + 4, Math.floor(v / 4294967296), true);
    this.#at += 8;
    return this;
  }

  f32(v: number): this {
    this.#align(4);
    this.#view.setFloat32(this.#at, v, true);
    this.#at += 4;
    return this;
  }

  f64(v: number): this {
    this.#align(8);
    this.#view.setFloat64(this.#at, v, true);
    this.#at += 8;
    return this;
  }

  /** `struct Shape`: rank, sizes, count. */
  shape(sizes: readonly number[]): this {
    this.#align(8);
    this.i32(sizes.length);
    let count = 1;
    for (let i = 0; i < maxRank; i++) {
      this.i32(sizes[i] ?? 1);
      count *= sizes[i] ?? 1;
    }
    return this.i64(count);
  }

  /** `struct Strides`. */
  strides(strides: readonly number[]): this {
    for (let i = 0; i < maxRank; i++) this.i64(strides[i] ?? 0);
    return this;
  }

  /** Ends the launch. */
  end(): void {
    const argBytes = this.#at - this.#args;
    this.#align(8);
    this.#view.setUint32(this.#args - 12, argBytes, true);
    this.#view.setUint32(this.#args - 8, this.#relocations.length, true);
    this.#view.setUint32(this.#args - 4, 0, true);
    for (const r of this.#relocations) {
      this.#u32(r.at);
      if ('map' in r) {
        this.#u32(2);
        this.#map(r.map);
      } else {
        this.#u32(r.optional ? 1 : 0);
        this.#range(r.range ?? { memory: 0, offset: 0, bytes: 0 });
      }
    }
    this.#close();
  }

  #map({ range, dataType, dims, strides, box, swizzle }: TensorMap): void {
    this.#range(range);
    this.#u32(dataType);
    this.#u32(dims.length);
    this.#u32(swizzle);
    this.#u32(2); // fetch 128 bytes into L2
    for (let i = 0; i < 5; i++) this.#f64(dims[i] ?? 1);
    for (let i = 0; i < 5; i++) this.#f64(strides[i] ?? 0);
    for (let i = 0; i < 6; i++) this.#u32(box[i] ?? 1);
  }

  /** Fills a range with a value of 1, 2 or 4 bytes. */
  fill(range: Range, value: number, width: 1 | 2 | 4): void {
    this.#open(FILL);
    this.#range(range);
    this.#u32(value);
    this.#u32(width);
    this.#close();
  }

  copy(to: Range, from: Range): void {
    this.#open(COPY);
    this.#f64(to.memory);
    this.#f64(to.offset);
    this.#f64(from.memory);
    this.#f64(from.offset);
    this.#f64(to.bytes);
    this.#close();
  }

  /** Runs a plan. `bias`, `scaleA`, `scaleB` only where the plan has them. */
  matmul(
    plan: Handle,
    alpha: number,
    beta: number,
    a: Range,
    b: Range,
    d: Range,
    workspace: Range | undefined,
    extra: { bias?: Range; scaleA?: Range; scaleB?: Range } = {},
  ): void {
    this.#open(MATMUL);
    this.#f64(plan);
    this.#view.setFloat32(this.#at, alpha, true);
    this.#view.setFloat32(this.#at + 4, beta, true);
    this.#at += 8;
    for (const r of [a, b, d, extra.bias, extra.scaleA, extra.scaleB]) {
      this.#f64(r?.memory ?? 0);
      this.#f64(r?.offset ?? 0);
    }
    this.#range(workspace ?? { memory: 0, offset: 0, bytes: 0 });
    this.#close();
  }

  useStream(stream: Handle): void {
    this.#one(USE_STREAM, stream);
  }

  record(event: Handle): void {
    this.#one(RECORD, event);
  }

  wait(event: Handle): void {
    this.#one(WAIT, event);
  }

  hostToDevice(to: Range, host: Handle, hostOffset: number): void {
    this.#host(HOST_TO_DEVICE, to, host, hostOffset);
  }

  deviceToHost(from: Range, host: Handle, hostOffset: number): void {
    this.#host(DEVICE_TO_HOST, from, host, hostOffset);
  }

  collective(c: CollectiveCommand): void {
    this.#open(COLLECTIVE);
    this.#f64(c.group);
    for (const v of [c.kind, c.dtype, c.reduction, c.root]) this.#u32(v);
    for (const v of [c.count, c.x.memory, c.x.offset, c.y.memory, c.y.offset]) this.#f64(v);
    this.#close();
  }

  #one(op: number, handle: Handle): void {
    this.#open(op);
    this.#f64(handle);
    this.#close();
  }

  #host(op: number, range: Range, host: Handle, hostOffset: number): void {
    this.#open(op);
    this.#range(range);
    this.#f64(host);
    this.#f64(hostOffset);
    this.#close();
  }
}
