import { describe, LowrankError, sameShape } from '@lowrank/kernels';
import { binaryInto, castTo, copyInto, ones } from '../ops/raw.ts';
import { keep, Scope } from '../scope.ts';
import type { Tensor } from '../tensor.ts';
import { withGrad, withPlacing } from './mode.ts';
import { type Edge, edgeOf, type Node } from './node.ts';

/** Nodes from which a gradient can reach a leaf, newest first: ids grow, so this order is topological. */
function order(root: Node): Node[] {
  const seen = new Set<Node>([root]);
  const stack = [root];
  while (stack.length)
    for (const e of stack.pop()!.edges)
      if (e && 'node' in e && !seen.has(e.node)) seen.add(e.node) && stack.push(e.node);
  return [...seen].sort((a, b) => b.id - a.id);
}

/** A gradient that may be written to: nobody else holds its memory, and no element stands for several. */
function owned(t: Tensor): boolean {
  return t.storage.refs === 1 && t.strides.every((s, i) => s !== 0 || t.shape[i]! <= 1);
}

/** A row-major gradient of its own; consumes the handle. No scope owns it. */
function settled(t: Tensor): Tensor {
  if (t.isContiguous) return t;
  const row = keep(copyInto(t, t.device.empty(t.shape, t.dtype)));
  t.dispose();
  return row;
}

/** a + b, over a's memory when nobody else reads it. Both handles are consumed. */
function accumulate(a: Tensor, b: Tensor): Tensor {
  const [into, other] = owned(a) ? [a, b] : owned(b) ? [b, a] : [undefined, undefined];
  if (into && other) {
    binaryInto('add', into, other, into);
    other.dispose();
    return into;
  }
  const sum = keep(binaryInto('add', a, b));
  a.dispose();
  b.dispose();
  return sum;
}

function run(
  root: Tensor,
  seed: Tensor | undefined,
  placing: boolean,
  toLeaf: (leaf: Tensor, grad: Tensor) => void,
): void {
  const edge: Edge = edgeOf(root);
  if (!edge)
    throw new LowrankError(
      'backward',
      'no gradient can flow',
      describe(root),
      'No input of this computation has requiresGrad, or it was detached',
    );
  if (seed && !sameShape(seed.shape, root.shape))
    throw new LowrankError(
      'backward',
      'the seed gradient must have the shape of the tensor',
      `${describe(seed)} for ${describe(root)}`,
    );
  if (!seed && root.shape.reduce((p, d) => p * d, 1) !== 1)
    throw new LowrankError('backward', 'needs a scalar, or a seed gradient', describe(root));
  withGrad(false, () => {
    using outer = new Scope();
    const first = seed ? seed.alias() : ones(root.device, root.shape, root.dtype);
    outer.detach(first);
    if ('leaf' in edge) {
      toLeaf(edge.leaf, first);
      return;
    }
    const pending = new Map<Node, (Tensor | undefined)[]>();
    const add = (to: Edge, grad: Tensor) => {
      if (!to) grad.dispose();
      else if ('leaf' in to) toLeaf(to.leaf, grad);
      else {
        let slots = pending.get(to.node);
        if (!slots) pending.set(to.node, (slots = new Array<Tensor | undefined>(to.node.outputs.length)));
        const there = slots[to.index];
        slots[to.index] = there ? accumulate(there, grad) : grad;
      }
    };
    add(edge, first);
    for (const node of order(edge.node)) {
      const grads = pending.get(node);
      pending.delete(node);
      if (!grads) continue;
      using inner = new Scope();
      let results: readonly (Tensor | undefined)[];
      try {
        results = withPlacing(placing, () => node.backward(grads));
      } catch (error) {
        for (const g of [grads, ...pending.values()].flat()) g?.dispose();
        throw error;
      }
      // results may be the incoming gradients themselves: keep handles of their own
      const kept = results.map((g) => (g ? inner.detach(g.alias()) : undefined));
      for (const g of new Set(results)) if (g && !grads.includes(g)) g.dispose();
      for (const g of grads) g?.dispose();
      node.edges.forEach((to, i) => {
        const g = kept[i];
        if (g) add(to, g);
      });
    }
  });
}

/**
 * Reverse-mode differentiation of a scalar (or of any tensor with a `seed` of its shape): adds to `grad` of every leaf with requiresGrad.
 * Leaves that have a `grad` already get the new one added in place, in their own dtype; others get it as it comes.
 * The graph is used up. Throws where no gradient can flow.
 */
export function backward(loss: Tensor, seed?: Tensor): void {
  run(loss, seed, true, (leaf, grad) => {
    const placed = leaf.grad !== undefined && grad.storage === leaf.grad.storage;
    leaf.freshGrad = false;
    if (placed) grad.dispose();
    else if (leaf.grad) {
      binaryInto('add', leaf.grad, grad.dtype === leaf.grad.dtype ? grad : castTo(grad, leaf.grad.dtype), leaf.grad);
      grad.dispose();
    } else leaf.grad = settled(grad);
  });
}

/** The gradients of a tensor for given leaves, which keep their own `grad`. Absent where none flows. The caller (or its scope) disposes them. */
export function gradients(of: Tensor, wrt: readonly Tensor[], seed?: Tensor): (Tensor | undefined)[] {
  const found = collectGradients(of, seed);
  const out = wrt.map((t) => found.get(t));
  for (const [leaf, g] of found) if (!wrt.includes(leaf)) g.dispose();
  for (const g of out) if (g) Scope.add(g);
  return out;
}

/** The gradient of every leaf that `of` depends on; summed into `into`, which may hold gradients of earlier calls. No scope owns them. */
export function collectGradients(of: Tensor, seed?: Tensor, into = new Map<Tensor, Tensor>()): Map<Tensor, Tensor> {
  run(of, seed, false, (leaf, grad) => {
    const there = into.get(leaf);
    into.set(leaf, there ? accumulate(there, grad) : settled(grad));
  });
  return into;
}
