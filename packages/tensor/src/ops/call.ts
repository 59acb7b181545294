import {
  type Call,
  type Contract,
  type FusedKernel,
  type FusedName,
  type FusedOps,
  fusedContracts,
  LowrankError,
  leaves,
  type MapOperands,
  mapLeaves,
  type OpTypes,
  type PrimitiveName,
  type PrimitiveOps,
  primitiveContracts,
  type Spec,
  type TensorSpec,
} from '@lowrank/kernels';
import { freshGradient, gradEnabled } from '../autograd/mode.ts';
import { connect, Node, tracked } from '../autograd/node.ts';
import { currentRegion, type PolicyCall, Recipe } from '../autograd/recipe.ts';
import type { Device } from '../device.ts';
import type { Tensor } from '../tensor.ts';

export type Tensors<O> = MapOperands<O, Tensor>;

/** What a derivative rule sees. Paths are those of the contract's operands: `x`, `layers.0.a`. */
export interface VjpContext<O extends OpTypes> {
  readonly attrs: O['attrs'];
  /** The gradient of an output, undefined where none came. */
  grad(output: string): Tensor | undefined;
  /** A saved input or output. */
  saved(path: string): Tensor;
  /** Whether the gradient of an input is wanted. */
  needs(input: string): boolean;
  /** Whether an optional operand is there. */
  has(path: string): boolean;
  /** Where the gradient of a leaf may be written directly: memory that holds zeros. Undefined where it must be added. */
  place(input: string): Tensor | undefined;
  /** The gradient of an output, or a saved operand, whose memory a result may take: nobody reads it after this. */
  spare(path: string): Tensor | undefined;
  /** The spec of an input or output. */
  spec(path: string): TensorSpec;
}

/** The calculus of an op. */
export interface Rule<O extends OpTypes> {
  /** Paths of inputs and outputs that `vjp` will read, given which inputs need a gradient. */
  saves(needs: (input: string) => boolean, attrs: O['attrs'], has: (path: string) => boolean): readonly string[];
  /** Gradients by input path. */
  vjp(context: VjpContext<O>): Record<string, Tensor | undefined>;
}

type Cost = PolicyCall['cost'];

export interface FusedDefinition<N extends FusedName> {
  readonly name: N;
  /** Whether recomputing it costs about what it saves: `selective` recompute keeps the results of expensive ops. */
  readonly cost: Cost | ((attrs: FusedOps[N]['attrs']) => Cost);
  /** Outputs that a recompute policy never drops: small ones, whose making again would repeat the whole op. */
  readonly keeps?: readonly string[];
  /** The same function in terms of other ops; differentiable when its inputs are. */
  decompose(inputs: Tensors<FusedOps[N]['inputs']>, attrs: FusedOps[N]['attrs']): Tensors<FusedOps[N]['outputs']>;
  /** `none`: not differentiable (a gradient that would be cut is an error). */
  readonly rule: Rule<FusedOps[N]> | 'none';
}

type Runner<O extends OpTypes> = (device: Device, call: Call<O>) => void;

function deviceOf(op: string, tensors: readonly Tensor[], device?: Device): Device {
  const d = device ?? tensors[0]?.device;
  if (!d) throw new LowrankError(op, 'needs a tensor or a device');
  for (const t of tensors)
    if (t.device !== d) throw new LowrankError(op, 'operands live on different devices', String(t));
  return d;
}

/** Allocates outputs (unless given) and runs a kernel; no recording. */
function execute<O extends OpTypes>(
  device: Device,
  contract: Contract<O>,
  inputs: unknown,
  attrs: O['attrs'],
  run: Runner<O>,
  into?: Record<string, Tensor>,
): { outputs: Tensors<O['outputs']>; specs: MapOperands<O['outputs'], TensorSpec> } {
  const specs = contract.infer(inputs as MapOperands<O['inputs'], TensorSpec>, attrs);
  const outputs = mapLeaves<TensorSpec, Tensor>(
    specs,
    (spec, path) => into?.[path] ?? device.empty(spec.shape, spec.dtype),
  ) as Tensors<O['outputs']>;
  const views = (tree: unknown) => mapLeaves<Tensor, unknown>(tree, (t) => t.view) as never;
  run(device, { inputs: views(inputs), outputs: views(outputs), attrs });
  return { outputs, specs };
}

/** Records a node over what a kernel made, and how to make it again where a policy asks for that. */
function record<O extends OpTypes>(
  contract: Contract<O>,
  { cost, keeps = [], rule }: { cost: Cost; keeps?: readonly string[] | undefined; rule: Rule<O> | 'none' },
  inputs: unknown,
  attrs: O['attrs'],
  outputs: unknown,
  run: Runner<O>,
): void {
  const ins = leaves<Tensor>(inputs);
  const outs = leaves<Tensor>(outputs);
  const device = outs[0]?.value.device;
  const within = currentRegion();
  const growth = Math.max(...outs.map((o) => o.value.storage.byteLength)) / Math.max(1, ins[0]?.value.byteLength ?? 1);
  if (within?.keeps({ op: contract.name, cost, growth })) {
    within.kept?.push(...outs.map((o) => o.value.storage));
  } else if (device && within)
    new Recipe(
      within,
      ins.map((i) => i.value),
      outs.map((o) => (keeps.includes(o.path) ? undefined : o.value.storage)),
      (again) => {
        let i = 0;
        const tree = mapLeaves<Tensor, Tensor>(inputs, () => again[i++]!);
        const made = execute(device, contract, tree, attrs, run);
        return leaves<Tensor>(made.outputs).map(({ value }) => {
          const storage = value.storage.retain();
          value.dispose();
          return storage;
        });
      },
    );
  const needed = new Map(ins.map((i) => [i.path, tracked(i.value)]));
  if (![...needed.values()].some(Boolean)) return;
  if (rule === 'none') {
    const names = ins.filter((i) => tracked(i.value)).map((i) => i.path);
    throw new LowrankError(
      contract.name,
      'has no derivative, and a gradient would be cut',
      `inputs ${names.join(', ')} require one`,
      'Use detach() or noGrad() if that is meant',
    );
  }
  const needs = (path: string) => needed.get(path) ?? false;
  const byPath = new Map([...ins, ...outs].map((l) => [l.path, l.value]));
  const paths = rule.saves(needs, attrs, (path) => byPath.has(path));
  const specs = new Map(
    [...byPath].map(([path, t]) => [path, { dtype: t.dtype, shape: t.shape, strides: t.strides } as TensorSpec]),
  );
  const outIndex = new Map(outs.map((o, i) => [o.path, i]));
  const saved = paths.map((p) => {
    const t = byPath.get(p);
    if (!t) throw new LowrankError(contract.name, 'saves an operand that is not there', p);
    return t;
  });
  const node = new Node(
    contract.name,
    ins.map((i) => i.value),
    outs.map((o) => specs.get(o.path)!),
    saved,
    (grads, kept, last) => {
      const result = rule.vjp({
        attrs,
        grad: (path) => grads[outIndex.get(path) ?? -1],
        saved: (path) => {
          const at = paths.indexOf(path);
          if (at < 0) throw new LowrankError(contract.name, 'reads an operand that it did not save', path);
          return kept[at]!;
        },
        needs,
        has: (path) => specs.has(path),
        place: (path) => freshGradient(byPath.get(path)),
        spare: (path) => {
          const at = paths.indexOf(path);
          const t = at >= 0 ? kept[at] : grads[outIndex.get(path) ?? -1];
          const free = t?.isContiguous && (at >= 0 ? last(at) : t.storage.refs === 1);
          return free ? t : undefined;
        },
        spec: (path) => specs.get(path)!,
      });
      // results written over borrowed memory get handles of their own: the borrowed ones live on, or are closed elsewhere
      const borrowed = (t: Tensor) => kept.includes(t) || ins.some((i) => i.value.grad === t);
      return ins.map((i) => {
        const g = needs(i.path) ? result[i.path] : undefined;
        return g && borrowed(g) ? g.alias() : g;
      });
    },
  );
  connect(
    node,
    outs.map((o) => o.value),
  );
}

function recording(inputs: readonly Tensor[]): boolean {
  return gradEnabled() && (inputs.some(tracked) || currentRegion() !== undefined);
}

function refuseInto(op: string, into: object | undefined): void {
  if (into)
    throw new LowrankError(
      op,
      'cannot write into given memory while a gradient is recorded',
      '',
      'Run it under noGrad()',
    );
}

/** Runs a primitive: shapes are checked and inferred here, memory is found here, the backend only computes. */
export function primitive<P extends PrimitiveName>(
  name: P,
  rule: Rule<PrimitiveOps[P]> | 'none',
  inputs: Tensors<PrimitiveOps[P]['inputs']>,
  attrs: PrimitiveOps[P]['attrs'],
  options: { into?: Record<string, Tensor>; device?: Device; cost?: Cost } = {},
): Tensors<PrimitiveOps[P]['outputs']> {
  const contract = primitiveContracts[name] as unknown as Contract<PrimitiveOps[P]>;
  const tensors = leaves<Tensor>(inputs).map((l) => l.value);
  const device = deviceOf(name, tensors, options.device);
  const run: Runner<PrimitiveOps[P]> = (d, call) => d.runPrimitive(name, call as never);
  const record_ = recording(tensors);
  if (record_) refuseInto(name, options.into);
  const { outputs } = execute(device, contract, inputs, attrs, run, options.into);
  if (record_) record(contract, { cost: options.cost ?? 'cheap', rule }, inputs, attrs, outputs, run);
  return outputs;
}

/** The function that `defineFused` makes: the backend's kernel where there is one that accepts, the decomposition elsewhere. */
export type FusedFunction<N extends FusedName> = ((
  inputs: Tensors<FusedOps[N]['inputs']>,
  attrs: FusedOps[N]['attrs'],
  options?: { into?: Record<string, Tensor> },
) => Tensors<FusedOps[N]['outputs']>) & {
  readonly definition: FusedDefinition<N>;
};

/**
 * Defines a fused op in one place: its decomposition, and its derivative. The result runs everywhere, is differentiable everywhere, and
 * takes the backend's kernel where one accepts the call. `device.explain()` tells where it did not.
 */
export function defineFused<N extends FusedName>(definition: FusedDefinition<N>): FusedFunction<N> {
  type O = FusedOps[N];
  const { name } = definition;
  const contract = fusedContracts[name] as unknown as Contract<O>;
  const call = (
    inputs: Tensors<O['inputs']>,
    attrs: O['attrs'],
    options: { into?: Record<string, Tensor> } = {},
  ): Tensors<O['outputs']> => {
    const tensors = leaves<Tensor>(inputs).map((l) => l.value);
    const device = deviceOf(name, tensors);
    const kernel =
      device.fused === 'off' ? undefined : (device.backend.fused[name] as unknown as FusedKernel<O> | undefined);
    const spec: Spec<O> = {
      inputs: inputs as Spec<O>['inputs'],
      outputs: mapLeaves<TensorSpec, TensorSpec>(
        contract.infer(inputs as never, attrs),
        (made, path) => options.into?.[path] ?? made,
      ) as Spec<O>['outputs'],
      attrs,
    };
    const verdict = kernel?.accepts(spec);
    if (!kernel || verdict !== true) {
      const reason =
        device.fused === 'off'
          ? 'fused ops are off'
          : verdict && verdict !== true
            ? verdict.refused
            : `${device.backend.name} has no such kernel`;
      if (device.fused === 'require')
        throw new LowrankError(name, 'no fused kernel takes this call', reason, "Use fused: 'auto' to decompose it");
      device.noteFallback(name, reason);
      const outputs = definition.decompose(inputs, attrs);
      if (!options.into) return outputs;
      if (recording(tensors)) refuseInto(name, options.into);
      return moveInto(outputs, options.into);
    }
    const bytes = kernel.workspace?.(spec) ?? 0;
    const run: Runner<O> = (d, c) => {
      const workspace = bytes > 0 ? d.empty([bytes], 'u8', 'workspace') : undefined;
      d.run(name, kernel.run as never, (workspace ? { ...c, workspace: workspace.view } : c) as never);
      workspace?.dispose();
    };
    const record_ = recording(tensors);
    if (record_) refuseInto(name, options.into);
    const { outputs } = execute(device, contract, inputs, attrs, run, options.into);
    const cost = typeof definition.cost === 'function' ? definition.cost(attrs) : definition.cost;
    if (record_) record(contract, { ...definition, cost } as never, inputs, attrs, outputs, run);
    return outputs;
  };
  return Object.assign(call, { definition });
}

/** Copies outputs of a decomposition to where the caller wants them. */
function moveInto<T>(outputs: T, into: Record<string, Tensor>): T {
  return mapLeaves<Tensor, Tensor>(outputs, (t, path) => {
    const to = into[path];
    if (!to || to === t) return t;
    to.device.runPrimitive('copy', { inputs: { x: t.view }, outputs: { y: to.view }, attrs: {} } as never);
    t.dispose();
    return to;
  }) as T;
}
