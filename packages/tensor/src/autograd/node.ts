import { LowrankError, type TensorSpec } from '@lowrank/kernels';
import type { Tensor } from '../tensor.ts';
import { currentRegion, lastReader, openSlot, releaseSlot, type Slot, slotOf } from './recipe.ts';

/** Where a gradient goes: an output of the node that made the input, or a leaf. */
export type Edge = { readonly node: Node; readonly index: number } | { readonly leaf: Tensor } | undefined;

/** Takes the gradients of a node's outputs (undefined where none came) and gives those of its inputs. Runs without recording. */
export type Vjp = (
  grads: readonly (Tensor | undefined)[],
  saved: readonly Tensor[],
  /** Whether a saved tensor is read here for the last time, so that a result may take its memory. */
  last: (saved: number) => boolean,
) => readonly (Tensor | undefined)[];

let nextId = 0;

/** Where the gradient of a tensor goes. */
export function edgeOf(tensor: Tensor): Edge {
  if (tensor.node) return { node: tensor.node, index: tensor.outputIndex };
  return tensor.requiresGrad ? { leaf: tensor } : undefined;
}

/** Whether a gradient can flow into the tensor. */
export function tracked(tensor: Tensor): boolean {
  return tensor.node !== undefined || tensor.requiresGrad;
}

/** One recorded call. Held by the tensors it made and by the nodes that read them; lets go of what it saved when the last of them goes. */
export class Node {
  readonly id = nextId++;
  readonly name: string;
  readonly edges: readonly Edge[];
  readonly outputs: readonly TensorSpec[];
  readonly #vjp: Vjp;
  #saved: Slot[] | undefined;
  #refs = 0;

  constructor(
    name: string,
    inputs: readonly Tensor[],
    outputs: readonly TensorSpec[],
    saved: readonly Tensor[],
    vjp: Vjp,
  ) {
    this.name = name;
    this.edges = inputs.map(edgeOf);
    this.outputs = outputs;
    this.#vjp = vjp;
    const within = currentRegion();
    this.#saved = saved.map((t) => slotOf(t, within));
    for (const e of this.edges) if (e && 'node' in e) e.node.retain();
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    // iterative: graphs are deeper than the call stack
    const stack: Node[] = [this];
    while (stack.length) {
      const node = stack.pop()!;
      if (--node.#refs > 0) continue;
      node.#dropSaved();
      for (const e of node.edges) if (e && 'node' in e) stack.push(e.node);
    }
  }

  /** Runs the rule once; what was saved is let go. */
  backward(grads: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[] {
    if (!this.#saved)
      throw new LowrankError(
        'backward',
        'the graph was used already',
        this.name,
        'Run the forward pass again before a second backward pass',
      );
    const slots = this.#saved;
    const saved = slots.map(openSlot);
    try {
      return this.#vjp(grads, saved, (i) => lastReader(slots[i]!, saved[i]!));
    } finally {
      for (const t of saved) t.dispose();
      this.#dropSaved();
    }
  }

  #dropSaved(): void {
    const saved = this.#saved;
    this.#saved = undefined;
    if (saved) for (const slot of saved) releaseSlot(slot);
  }
}

/** Ties outputs to the call that made them. */
export function connect(node: Node, outputs: readonly Tensor[]): void {
  outputs.forEach((t, i) => {
    t.node = node;
    t.outputIndex = i;
    node.retain();
  });
}
