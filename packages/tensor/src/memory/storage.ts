import { LowrankError, type Offloaded } from '@lowrank/kernels';
import type { Recipe } from '../autograd/recipe.ts';
import type { Device } from '../device.ts';
import type { Block } from './allocator.ts';
import type { MemoryClass } from './pool.ts';

/** Reference-counted device memory under one or more tensors. Internal: users see tensors and scopes. */
export class Storage {
  readonly device: Device;
  readonly byteLength: number;
  readonly memoryClass: MemoryClass;
  /** How to make the contents again, while a recompute policy says that they need not be kept. */
  recipe: { readonly recipe: Recipe; readonly index: number } | undefined;
  #block: Block | undefined;
  #offloaded: Offloaded | undefined;
  #refs = 1;

  constructor(device: Device, byteLength: number, memoryClass: MemoryClass) {
    this.device = device;
    this.byteLength = byteLength;
    this.memoryClass = memoryClass;
    this.#block = device.pool.allocate(byteLength, memoryClass);
  }

  get block(): Block {
    if (this.#offloaded) this.#fetch();
    if (!this.#block) throw new LowrankError('tensor', 'used after dispose');
    return this.#block;
  }

  get alive(): boolean {
    return this.#block !== undefined || this.#offloaded !== undefined;
  }

  /** Moves the contents to host memory until they are next read, where the backend can. */
  offload(): void {
    const { offload } = this.device.backend.memory;
    if (!offload || !this.#block) return;
    const { buffer, byteOffset } = this.#block;
    this.#offloaded = offload.store(buffer, byteOffset, this.byteLength);
    this.device.pool.free(this.#block, this.memoryClass);
    this.#block = undefined;
  }

  #fetch(): void {
    const stored = this.#offloaded!;
    const { offload } = this.device.backend.memory;
    this.#block = this.device.pool.allocate(this.byteLength, this.memoryClass);
    this.#offloaded = undefined;
    offload!.fetch(stored, this.#block.buffer, this.#block.byteOffset);
    offload!.release(stored);
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
    if (this.#block) this.device.pool.free(this.#block, this.memoryClass);
    if (this.#offloaded) this.device.backend.memory.offload!.release(this.#offloaded);
    this.#block = undefined;
    this.#offloaded = undefined;
    this.dropRecipe();
  }

  dropRecipe(): void {
    const held = this.recipe;
    this.recipe = undefined;
    held?.recipe.forget(held.index);
  }
}
