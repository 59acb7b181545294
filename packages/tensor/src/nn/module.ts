import { LowrankError } from '@lowrank/kernels';
import type { Tensor } from '../tensor.ts';

/**
 * A named tree of layers and parameters, with the names that checkpoints use (`model.layers.0.self_attn.q_proj`).
 * A module owns its tensors: `dispose` frees them all.
 */
export abstract class Module implements Disposable {
  readonly children = new Map<string, Module>();
  readonly #parameters = new Map<string, Tensor>();

  /** Adds a child under its checkpoint name. */
  child<M extends Module>(name: string, module: M): M {
    this.children.set(name, module);
    return module;
  }

  /** Adds a parameter under its checkpoint name; takes it over. */
  parameter(name: string, tensor: Tensor): Tensor {
    this.#parameters.set(name, tensor);
    return tensor;
  }

  /** This module's own tensors, by name. Overridden where weights have other forms. */
  own(): ReadonlyMap<string, Tensor> {
    return this.#parameters;
  }

  /** Replaces a parameter (the old one is not disposed). */
  setParameter(name: string, tensor: Tensor): void {
    if (!this.#parameters.has(name)) throw new LowrankError('setParameter', 'no such parameter', name);
    this.#parameters.set(name, tensor);
  }

  /** Every module of the tree with its path; '' is this one. Parents come before children. */
  *namedModules(path = ''): Generator<[string, Module]> {
    yield [path, this];
    for (const [name, child] of this.children) yield* child.namedModules(path ? `${path}.${name}` : name);
  }

  /** Every tensor of the tree with its path. A tensor that two modules share comes once, under its first path. */
  *namedParameters(): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [path, module] of this.namedModules())
      for (const [name, tensor] of module.own()) {
        if (seen.has(tensor)) continue;
        seen.add(tensor);
        yield [path ? `${path}.${name}` : name, tensor];
      }
  }

  /** The module at a path. */
  at(path: string): Module {
    for (const [p, m] of this.namedModules()) if (p === path) return m;
    throw new LowrankError('module', 'no such path', path);
  }

  dispose(): void {
    for (const child of this.children.values()) child.dispose();
    for (const t of this.#parameters.values()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
