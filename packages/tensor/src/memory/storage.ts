import { type DeviceBuffer, LowrankError } from '@lowrank/kernels';
import type { Recipe } from '../autograd/recipe.ts';
import type { Device } from '../device.ts';
import type { Block } from './allocator.ts';
import type { Offloadable } from './offload-queue.ts';
import type { MemoryClass } from './pool.ts';

/** Reference-counted device memory under one or more tensors. Internal: users see tensors and scopes. */
export class Storage implements Offloadable {
  readonly device: Device;
  readonly byteLength: number;
  readonly memoryClass: MemoryClass;
  /** How to make the contents again, while a recompute policy says that they need not be kept. */
  recipe: { readonly recipe: Recipe; readonly index: number } | undefined;
  #block: Block | undefined;
  /** Handed to the device's offload queue, which says where the bytes are until they are asked for. */
  #queued = false;
  #refs = 1;

  constructor(device: Device, byteLength: number, memoryClass: MemoryClass) {
    this.device = device;
    this.byteLength = byteLength;
    this.memoryClass = memoryClass;
    this.#block = device.pool.allocate(byteLength, memoryClass);
  }

  get block(): Block {
    if (this.#queued) {
      this.#queued = false;
      const { offloads } = this.device;
      if (offloads!.holds(this)) offloads!.fetch(this);
    }
    if (!this.#block) throw new LowrankError('tensor', 'used after dispose');
    return this.#block;
  }

  get alive(): boolean {
    return this.#block !== undefined || this.#queued;
  }

  /** Moves the contents to host memory until they are next read, where the backend can. */
  offload(): void {
    const { offloads } = this.device;
    if (!offloads || !this.#block || this.#queued) return;
    this.#queued = true;
    offloads.store(this);
  }

  place(): { readonly buffer: DeviceBuffer; readonly byteOffset: number } {
    return this.#block!;
  }

  leave(): void {
    this.device.pool.free(this.#block!, this.memoryClass);
    this.#block = undefined;
  }

  enter(): void {
    this.#block = this.device.pool.allocate(this.byteLength, this.memoryClass);
  }

  get refs(): number {
    return this.#refs;
  }

  retain(): this {
    if (!this.alive) throw new LowrankError('tensor', 'used after dispose');
    this.#refs++;
    return this;
  }

  release(): void {
    if (--this.#refs > 0 || !this.alive) return;
    const { offloads } = this.device;
    if (this.#queued && offloads!.holds(this)) offloads!.release(this);
    this.#queued = false;
    if (this.#block) this.leave();
    this.dropRecipe();
  }

  dropRecipe(): void {
    const held = this.recipe;
    this.recipe = undefined;
    held?.recipe.forget(held.index);
  }
}
