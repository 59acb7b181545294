import type { TensorSpec } from '@lowrank/kernels';
import type { Storage } from '../memory/storage.ts';
import { Scope } from '../scope.ts';
import { Tensor } from '../tensor.ts';
import { withGrad } from './mode.ts';

/** A call whose results a policy keeps or not. */
export interface PolicyCall {
  readonly op: string;
  /** Products and attention are expensive to make again; norms, activations, rotations and sums cheap. */
  readonly cost: 'cheap' | 'expensive';
  /** Bytes of the largest result over those of the first operand. */
  readonly growth: number;
}

/**
 * What a checkpointed region keeps of the results that the backward pass reads:
 * `none` everything; `selective` what is expensive to make again, but, where what is kept waits in host memory, nothing that is many times
 * wider than what it was made of: its way there and back would take longer than making it again; `block` only what enters the region;
 * or a function of the call.
 */
export type RecomputePolicy = 'none' | 'selective' | 'block' | ((call: PolicyCall) => 'keep' | 'recompute');

/** How many times wider than its operand a result may be that waits in host memory: q, k and v together are, gate and up are not. */
const widest = 4;
/** Of what a region keeps, results below this part of the largest stay on the device: moving them costs more launches than it frees. */
const worthMoving = 1 / 64;

interface Region {
  readonly keeps: (call: PolicyCall) => boolean;
  /** Where kept results are gathered that shall wait in host memory. */
  readonly kept: Storage[] | undefined;
}

let region: Region | undefined;

/** The innermost checkpointed region, where recording is on. */
export function currentRegion(): Region | undefined {
  return region;
}

function keeperOf(policy: Exclude<RecomputePolicy, 'none'>, offload: boolean): Region['keeps'] {
  if (policy === 'block') return () => false;
  if (policy === 'selective') return ({ cost, growth }) => cost === 'expensive' && !(offload && growth > widest);
  return (call) => policy(call) === 'keep';
}

/** Large results that are still there, since a gradient will read them, leave for the host. */
function offloadKept(kept: readonly Storage[], results: readonly unknown[]): void {
  const own = new Set(results.filter((r) => r instanceof Tensor).map((t) => t.storage));
  const alive = kept.filter((s) => s.alive && !own.has(s));
  const least = Math.max(0, ...alive.map((s) => s.byteLength)) * worthMoving;
  for (const s of alive) if (s.byteLength >= least) s.offload();
}

/**
 * Runs `fn` so that results inside it are kept for the backward pass only as `policy` says; the rest is made again, each when a gradient
 * first reads it, and never when none does. What `fn` returns is always kept. Bit-equal to running without.
 * `offload`: what the policy keeps waits in host memory, where the backend can (not with `none`, which is no region).
 */
export function checkpoint<T>(policy: RecomputePolicy, fn: () => T, { offload = false } = {}): T {
  if (policy === 'none') return fn();
  const before = region;
  const mine: Region = { keeps: keeperOf(policy, offload), kept: offload ? [] : undefined };
  region = mine;
  let result: T;
  try {
    result = fn();
  } finally {
    region = before;
  }
  const results = Array.isArray(result) ? result : [result];
  for (const t of results) if (t instanceof Tensor) t.storage.dropRecipe();
  if (mine.kept) offloadKept(mine.kept, results);
  return result;
}

/** A tensor that can be had again: a kept storage, or the output of a recipe; with its window on that storage. */
export type Slot = { readonly spec: TensorSpec; readonly byteOffset: number } & (
  | { readonly storage: Storage }
  | { readonly recipe: Recipe; readonly index: number }
);

export function slotOf(tensor: Tensor, within: Region | undefined): Slot {
  const spec = { dtype: tensor.dtype, shape: tensor.shape, strides: tensor.strides };
  const made = tensor.storage.recipe;
  if (made && within && made.recipe.region === within) {
    made.recipe.retain();
    return { spec, byteOffset: tensor.byteOffset, recipe: made.recipe, index: made.index };
  }
  return { spec, byteOffset: tensor.byteOffset, storage: tensor.storage.retain() };
}

/** Whether an opened slot is the last reader of its memory, which may then be overwritten. */
export function lastReader(slot: Slot, opened: Tensor): boolean {
  // the slot (or its recipe) holds one reference, the opened handle the other
  return opened.storage.refs === 2 && ('storage' in slot || slot.recipe.readers === 1);
}

export function releaseSlot(slot: Slot): void {
  if ('storage' in slot) slot.storage.release();
  else slot.recipe.release();
}

/** A handle on the slot's contents, made again if they are gone. The caller disposes it. */
export function openSlot(slot: Slot): Tensor {
  const storage = 'storage' in slot ? slot.storage : slot.recipe.output(slot.index);
  return new Tensor(storage.retain(), slot.spec.dtype, slot.spec.shape, slot.spec.strides, slot.byteOffset);
}

/**
 * One call whose outputs need not be kept. Counted references: the storages it made, the savers that read them, and recipes that start
 * from them. Once made again, outputs stay until the last reference goes, and inputs are let go at once.
 */
export class Recipe {
  readonly region: Region;
  readonly #run: (inputs: Tensor[]) => Storage[];
  #slots: Slot[];
  /** Outputs that live on, by index: the first ones while someone holds them, or those made again (then held here). */
  #outputs: (Storage | undefined)[];
  #made = false;
  #refs: number;

  /** `outputs` are the storages of the first run (undefined where they are kept anyway); `run` repeats the call on the same inputs. */
  constructor(
    within: Region,
    inputs: readonly Tensor[],
    outputs: readonly (Storage | undefined)[],
    run: (inputs: Tensor[]) => Storage[],
  ) {
    this.region = within;
    this.#run = run;
    this.#slots = inputs.map((t) => slotOf(t, within));
    this.#outputs = [...outputs];
    this.#refs = 0;
    outputs.forEach((storage, index) => {
      if (!storage) return;
      this.#refs++;
      storage.recipe = { recipe: this, index };
    });
  }

  /** References left. */
  get readers(): number {
    return this.#refs;
  }

  retain(): void {
    this.#refs++;
  }

  /** A first storage is gone (or is kept for good now). */
  forget(index: number): void {
    if (!this.#made) this.#outputs[index] = undefined;
    this.release();
  }

  release(): void {
    if (--this.#refs > 0) return;
    for (const slot of this.#slots.splice(0)) releaseSlot(slot);
    if (this.#made) for (const s of this.#outputs) s?.release();
    this.#outputs = [];
  }

  output(index: number): Storage {
    const there = this.#outputs[index];
    if (there?.alive) return there;
    const inputs: Tensor[] = [];
    using _ = new Scope();
    for (const slot of this.#slots) inputs.push(openSlot(slot));
    const outputs = withGrad(false, () => this.#run(inputs));
    for (const t of inputs) t.dispose();
    this.#outputs = outputs;
    this.#made = true;
    for (const slot of this.#slots.splice(0)) releaseSlot(slot);
    return outputs[index]!;
  }
}
