import { LowrankError } from '@lowrank/kernels';
import type { Tensor } from './tensor.ts';

/** Every tensor of a tree of arrays and plain objects. Other objects (modules, optimizers) own their tensors and are left alone. */
function eachTensor(tree: unknown, f: (t: Tensor) => void): void {
  if (tree === null || typeof tree !== 'object') return;
  if ('storage' in tree && 'dtype' in tree) f(tree as Tensor);
  else if (Array.isArray(tree)) for (const x of tree) eachTensor(x, f);
  else if (Object.getPrototypeOf(tree) === Object.prototype) for (const x of Object.values(tree)) eachTensor(x, f);
}

/**
 * Collects the tensors made while it is the innermost open scope and disposes them when it closes.
 *
 * ```ts
 * using s = new Scope();
 * const y = x.mul(x).add(1);   // the product is disposed with the scope
 * return s.keep(y.sum());      // the sum is handed to the scope outside
 * ```
 */
export class Scope implements Disposable {
  static current: Scope | undefined;
  readonly #parent: Scope | undefined;
  readonly #tensors = new Set<Tensor>();
  #open = true;

  constructor() {
    this.#parent = Scope.current;
    Scope.current = this;
  }

  /** Internal: a tensor was made. */
  static add(tensor: Tensor): void {
    const scope = Scope.current;
    if (scope) scope.#tensors.add(tensor);
  }

  /** Internal: a tensor was disposed by hand. */
  forget(tensor: Tensor): void {
    this.#tensors.delete(tensor);
    if (this.#parent) this.#parent.forget(tensor);
  }

  /** Takes a tensor, or every tensor of a tree, out of this scope; it belongs to the scope outside, or to the caller where there is none. */
  keep<T>(tree: T): T {
    eachTensor(tree, (t) => {
      const outside = this.#parent;
      if (this.#tensors.delete(t) && outside) outside.#tensors.add(t);
    });
    return tree;
  }

  /** Takes tensors out of every scope: from now on the caller disposes them. */
  detach<T>(tree: T): T {
    eachTensor(tree, (t) => this.forget(t));
    return tree;
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    if (Scope.current === this) Scope.current = this.#parent;
    else {
      let s: Scope | undefined = Scope.current;
      while (s && s.#parent !== this) s = s.#parent;
      if (!s)
        throw new LowrankError('scope', 'closed out of order', '', 'Close scopes in the reverse order of opening');
    }
    for (const t of this.#tensors) t.dispose();
    this.#tensors.clear();
  }
}

/** Runs `fn` in a scope of its own: what it returns lives on, every other tensor it made is disposed. `fn` must not be async. */
export function scope<T>(fn: () => T): T {
  using s = new Scope();
  const result = fn();
  if (result instanceof Promise)
    throw new LowrankError('scope', 'fn returned a promise', '', 'Use `using s = new Scope()` in async code');
  return s.keep(result);
}

/** Takes tensors out of all scopes: the caller disposes them. */
export function keep<T>(tree: T): T {
  return Scope.current ? Scope.current.detach(tree) : tree;
}
