import type { TensorSpec, View } from './view.ts';

/**
 * Operands of an op: named, possibly optional, possibly lists or records of tensors.
 * `T` is `View` when a kernel runs, `TensorSpec` when shapes are inferred, `Tensor` in user code.
 */
export type Operands<T> = { readonly [name: string]: OperandTree<T> };
export type OperandTree<T> = T | undefined | readonly OperandTree<T>[] | { readonly [name: string]: OperandTree<T> };

/** An op's types: operands written over `View`. Contracts declare `interface RmsNorm extends OpTypes { inputs: …; outputs: …; attrs: … }`. */
export interface OpTypes {
  inputs: object;
  outputs: object;
  attrs: object;
}

/** The same tree of operands over another leaf type. */
export type MapOperands<O, To> = O extends View
  ? To
  : O extends undefined
    ? undefined
    : O extends readonly (infer E)[]
      ? readonly MapOperands<E, To>[]
      : O extends object
        ? { [K in keyof O]: MapOperands<O[K], To> }
        : O;

/** What a kernel gets: operands with memory, attributes, and the workspace it asked for. Kernels write outputs only. */
export interface Call<O extends OpTypes> {
  readonly inputs: O['inputs'];
  readonly outputs: O['outputs'];
  readonly attrs: O['attrs'];
  /** u8, at least as many bytes as `FusedKernel.workspace` said; contents undefined. */
  readonly workspace?: View;
}

/** A call before memory: what `accepts` and `workspace` decide on. */
export interface Spec<O extends OpTypes> {
  readonly inputs: MapOperands<O['inputs'], TensorSpec>;
  readonly outputs: MapOperands<O['outputs'], TensorSpec>;
  readonly attrs: O['attrs'];
}

/** An op's contract: its name, its shape rule, and which outputs may lie over which inputs. */
export interface Contract<O extends OpTypes> {
  readonly name: string;
  /** Primitives are what every backend has; the rest are fused ops, which have a decomposition into primitives. */
  readonly kind?: 'primitive' | 'fused';
  /**
   * Checks operands and attributes and gives the specs of the outputs (contiguous unless the op says otherwise).
   * Throws a LowrankError that names the op, the broken rule and the facts. Runs once a call, before any backend.
   */
  infer(inputs: MapOperands<O['inputs'], TensorSpec>, attrs: O['attrs']): MapOperands<O['outputs'], TensorSpec>;
  /** Pairs [output, input]: the output may be the very view of that input. Kernels must allow it. */
  readonly inplace?: readonly (readonly [output: string, input: string])[];
}

export function defineContract<O extends OpTypes>(contract: Contract<O>): Contract<O> {
  return contract;
}

function isLeaf(x: object): x is TensorSpec {
  return 'dtype' in x && 'shape' in x;
}

/** Every tensor of an operand tree with its path (`weights.0.codes`), in a fixed order. Absent operands are left out. */
export function leaves<T extends object = View>(tree: unknown, path = ''): { path: string; value: T }[] {
  if (tree === undefined || tree === null || typeof tree !== 'object') return [];
  if (isLeaf(tree)) return [{ path, value: tree as unknown as T }];
  const entries = Array.isArray(tree) ? tree.map((v, i) => [String(i), v] as const) : Object.entries(tree);
  return entries.flatMap(([k, v]) => leaves<T>(v, path ? `${path}.${k}` : k));
}

/** The same tree with every leaf replaced. Keeps absent operands absent. */
export function mapLeaves<From extends object, To>(
  tree: unknown,
  f: (leaf: From, path: string) => To,
  path = '',
): unknown {
  if (tree === undefined || tree === null || typeof tree !== 'object') return tree;
  if (isLeaf(tree)) return f(tree as unknown as From, path);
  if (Array.isArray(tree)) return tree.map((v, i) => mapLeaves(v, f, path ? `${path}.${i}` : String(i)));
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(tree)) out[k] = mapLeaves(v, f, path ? `${path}.${k}` : k);
  return out;
}
