import {
  type BinaryOp,
  bytesOf,
  check,
  type DType,
  describe,
  isContiguous,
  LowrankError,
  type ReduceOp,
  sameShape,
  sizeOf,
  type UnaryOp,
  type View,
} from '@lowrank/kernels';
import { noGrad } from './autograd/mode.ts';
import type { Node } from './autograd/node.ts';
import type { Device } from './device.ts';
import { decodeFrom } from './host.ts';
import type { Storage } from './memory/storage.ts';
import { Scope } from './scope.ts';

let nextTensorId = 0;

/** Methods that op modules add, so that `tensor.ts` depends on none of them. See `ops/methods.ts`. */
export interface Tensor {
  add(other: Tensor | number): Tensor;
  sub(other: Tensor | number): Tensor;
  mul(other: Tensor | number): Tensor;
  div(other: Tensor | number): Tensor;
  /** p · x + q */
  affine(p: number, q: number): Tensor;
  unary(op: UnaryOp, p?: number, q?: number): Tensor;
  binary(op: BinaryOp, other: Tensor): Tensor;
  neg(): Tensor;
  exp(): Tensor;
  log(): Tensor;
  square(): Tensor;
  silu(): Tensor;
  /** Matrix product over the last two axes; batch axes broadcast. */
  matmul(other: Tensor): Tensor;
  reduce(op: ReduceOp, axes?: number | readonly number[], keepAxes?: boolean): Tensor;
  sum(axes?: number | readonly number[], keepAxes?: boolean): Tensor;
  mean(axes?: number | readonly number[], keepAxes?: boolean): Tensor;
  max(axes?: number | readonly number[], keepAxes?: boolean): Tensor;
  cast(dtype: DType): Tensor;
  /** The same elements in another shape (one size may be −1); a copy only where strides do not allow a view. */
  reshape(shape: readonly number[]): Tensor;
  /** Swaps two axes, the last two by default. */
  transpose(a?: number, b?: number): Tensor;
  permute(axes: readonly number[]): Tensor;
  /** Elements [start, end) along an axis; negative positions count from the end. */
  slice(axis: number, start: number, end?: number): Tensor;
  /** Broadcasts axes of length 1 (new axes in front) without copying. */
  expand(shape: readonly number[]): Tensor;
  /** Views of consecutive parts along an axis. */
  split(sizes: readonly number[], axis?: number): Tensor[];
  /** Row-major memory: itself where it is so already (another handle). */
  contiguous(): Tensor;
}

/**
 * A strided, typed, n-dimensional window on device memory, part of a differentiable computation if `requiresGrad` or made from one that is.
 * Immutable for users. Freed by its scope, by `using`, or by `dispose()`; never by the garbage collector.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: methods are attached in ops/methods.ts
export class Tensor implements Disposable {
  readonly id = nextTensorId++;
  readonly storage: Storage;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** From the start of the storage, in bytes. */
  readonly byteOffset: number;
  /** Set on leaves that are to be trained. */
  requiresGrad = false;
  /** Of a leaf, after `backward`; of the same shape, the caller's to dispose. */
  grad: Tensor | undefined;
  /** Says that `grad` holds zeros: the next backward pass may write it instead of adding to it, and then clears this. */
  freshGrad = false;
  /** Internal: the call that made this tensor. */
  node: Node | undefined;
  outputIndex = 0;
  #disposed = false;

  /** Internal: takes over one reference of `storage`. Use a device's `tensor`, `zeros`, `full` … */
  constructor(storage: Storage, dtype: DType, shape: readonly number[], strides: readonly number[], byteOffset = 0) {
    this.storage = storage;
    this.dtype = dtype;
    this.shape = shape;
    this.strides = strides;
    this.byteOffset = byteOffset;
    Scope.add(this);
  }

  get device(): Device {
    return this.storage.device;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  get rank(): number {
    return this.shape.length;
  }

  get byteLength(): number {
    return this.size * bytesOf[this.dtype];
  }

  get isContiguous(): boolean {
    return isContiguous(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** What kernels get. */
  get view(): View {
    if (this.#disposed) throw new LowrankError('tensor', 'used after dispose', describe(this));
    const { buffer, byteOffset } = this.storage.block;
    return {
      buffer,
      byteOffset: byteOffset + this.byteOffset,
      dtype: this.dtype,
      shape: this.shape,
      strides: this.strides,
    };
  }

  /** Another handle on the same elements, outside the graph. */
  alias(): Tensor {
    if (this.#disposed) throw new LowrankError('tensor', 'used after dispose', describe(this));
    return new Tensor(this.storage.retain(), this.dtype, this.shape, this.strides, this.byteOffset);
  }

  /** The same elements as a constant: gradients stop here. */
  detach(): Tensor {
    return this.alias();
  }

  /** Marks a leaf as trainable. */
  requireGrad(on = true): this {
    check(
      !on || !this.node,
      'requireGrad',
      'only leaves can be trained',
      () => `${describe(this)} was made by ${this.node!.name}`,
      'Use detach() first',
    );
    this.requiresGrad = on;
    return this;
  }

  /**
   * Internal: from now on this leaf lives where `to` does, whose elements it takes; for parameters that are gathered in one buffer.
   * Aliases and views made before stay with the old memory.
   */
  moveTo(to: Tensor): void {
    check(
      !this.node && !this.#disposed && to.dtype === this.dtype && sameShape(to.shape, this.shape),
      'moveTo',
      'needs a leaf, and a place of its shape and dtype',
      () => `${describe(this)} to ${describe(to)}`,
    );
    const before = this.storage;
    Object.assign(this as { storage: Storage; strides: readonly number[]; byteOffset: number }, {
      storage: to.storage.retain(),
      strides: to.strides,
      byteOffset: to.byteOffset,
    });
    before.release();
  }

  /**
   * Lets the elements wait in host memory until something next reads them, where the backend can (`caps`: memory.offload). The handle is
   * disposed; a graph that saved the tensor still finds it.
   */
  offload(): void {
    if (this.storage.refs > 1) this.storage.offload();
    this.dispose();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    Scope.current?.forget(this);
    this.storage.release();
    this.node?.release();
    this.node = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The elements in row-major order, once everything enqueued so far has run. Floats as f32. */
  async toArray(): Promise<Float32Array | Int32Array | Uint32Array | Uint8Array> {
    const bytes = await this.bytes();
    return decodeFrom(bytes, this.dtype);
  }

  /** The raw bytes in row-major order. */
  async bytes(): Promise<Uint8Array> {
    using row = noGrad(() => (this.isContiguous ? this.alias() : this.contiguous()));
    if (row.byteLength === 0) return new Uint8Array(0);
    const { buffer, byteOffset } = row.view;
    return this.device.backend.memory.read(buffer, byteOffset, row.byteLength);
  }

  /** The one element of a scalar. */
  async item(): Promise<number> {
    check(this.size === 1, 'item', 'needs one element', () => describe(this));
    return (await this.toArray())[0]!;
  }

  toString(): string {
    return `Tensor(${describe(this)}${this.#disposed ? ', disposed' : ''})`;
  }
}
