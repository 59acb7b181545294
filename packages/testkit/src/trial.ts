import {
  type Backend,
  type Contract,
  contiguousStrides,
  type DType,
  describe as describeSpec,
  type FusedKernel,
  fusedContracts,
  type Kernel,
  leaves,
  mapLeaves,
  type OpTypes,
  primitiveContracts,
  type Spec,
  sameShape,
  type TensorSpec,
} from '@lowrank/kernels';
import {
  type Case,
  cases,
  layOut,
  makeInputs,
  type Operand,
  type RefArray,
  type Reference,
  references,
} from '@lowrank/kernels/testing';
import { Bench, type Ledger } from './bench.ts';
import { mismatch } from './compare.ts';

/** Everything the suite knows of an op. */
interface Op {
  readonly name: string;
  readonly kind: 'primitive' | 'fused';
  readonly contract: Contract<OpTypes>;
  readonly reference: Reference<OpTypes>;
  readonly cases: readonly Case<OpTypes>[];
}

/** One call of an op: a case for one dtype, perhaps with outputs over inputs (`over`: output path → input path). */
export interface Trial {
  readonly op: Op;
  readonly case: Case<OpTypes>;
  readonly dtype: DType;
  readonly over: ReadonlyMap<string, string>;
  /** Unique: op, case, dtype, overlap. */
  readonly id: string;
  /** The id without the op. */
  readonly title: string;
}

/** Ops that only move values: a dtype that can be stored will do. */
const movers = new Set(['copy', 'fill', 'cast', 'gather', 'select', 'iota']);

function opsOf(kind: Op['kind'], contracts: object): Op[] {
  return Object.entries(contracts).map(([name, contract]) => ({
    name,
    kind,
    contract: contract as Contract<OpTypes>,
    reference: (references as unknown as Record<string, Reference<OpTypes>>)[name]!,
    cases: (cases as unknown as Record<string, readonly Case<OpTypes>[]>)[name]!,
  }));
}

export const ops: readonly Op[] = [...opsOf('primitive', primitiveContracts), ...opsOf('fused', fusedContracts)];

function specOfOperand({ dtype, shape, layout }: Operand, run: DType): TensorSpec {
  return { dtype: dtype === 'T' ? run : dtype, shape, strides: layOut(shape, layout).strides };
}

/** Specs of inputs and outputs, the latter under the case's layouts. */
function specsOf({ op, case: c, dtype, over }: Pick<Trial, 'op' | 'case' | 'dtype' | 'over'>): Spec<OpTypes> {
  const attrs = c.attrs(dtype);
  const inputs = mapLeaves<Operand, TensorSpec>(c.inputs, (operand) =>
    specOfOperand(operand, dtype),
  ) as Spec<OpTypes>['inputs'];
  const byPath = new Map(leaves<TensorSpec>(inputs).map(({ path, value }) => [path, value]));
  const outputs = mapLeaves<TensorSpec, TensorSpec>(op.contract.infer(inputs, attrs), (spec, path) => ({
    ...spec,
    strides: byPath.get(over.get(path) ?? '')?.strides ?? layOut(spec.shape, c.outputs[path] ?? 'contiguous').strides,
  })) as Spec<OpTypes>['outputs'];
  return { inputs, outputs, attrs };
}

/** Ways to lay outputs over inputs that the contract allows and that fit this call. */
function overlaps(op: Op, c: Case<OpTypes>, dtype: DType): ReadonlyMap<string, string>[] {
  const { inputs, outputs } = specsOf({ op, case: c, dtype, over: new Map() });
  const specs = new Map(leaves<TensorSpec>(inputs).map(({ path, value }) => [path, value]));
  const choices = new Map<string, string[]>();
  for (const { path, value } of leaves<TensorSpec>(outputs))
    for (const [output, input] of op.contract.inplace ?? []) {
      const there = specs.get(input);
      if (output !== path || there?.dtype !== value.dtype || !sameShape(there.shape, value.shape)) continue;
      if (there.shape.some((d, axis) => d > 1 && there.strides[axis] === 0)) continue; // a destination does not repeat
      choices.set(path, [...(choices.get(path) ?? []), input]);
    }
  const most = Math.max(0, ...[...choices.values()].map((list) => list.length));
  return Array.from(
    { length: most },
    (_, i) => new Map([...choices].filter(([, list]) => list[i]).map(([output, list]) => [output, list[i]!])),
  );
}

/** Every call of an op that the suite makes. */
export function trialsOf(op: Op): Trial[] {
  return op.cases.flatMap((c) =>
    c.dtypes.flatMap((dtype) => {
      const title = `${c.name} ${dtype}`;
      const make = (over: ReadonlyMap<string, string>): Trial => {
        const full = over.size
          ? `${title}, ${[...over].map(([output, input]) => `${output} over ${input}`).join(', ')}`
          : title;
        return { op, case: c, dtype, over, title: full, id: `${op.name} ${full}` };
      };
      return [make(new Map()), ...(c.inplace ? overlaps(op, c, dtype).map(make) : [])];
    }),
  );
}

/** Why a device is not asked to make this call, from its capabilities. */
function incapable(backend: Backend, { op, dtype }: Trial, spec: Spec<OpTypes>): string | undefined {
  const { dtypes } = backend.caps;
  if (!movers.has(op.name) && !dtypes[dtype].compute) return `the device does not compute in ${dtype}`;
  for (const { value } of leaves<TensorSpec>([spec.inputs, spec.outputs]))
    if (!dtypes[value.dtype].store) return `the device does not store ${value.dtype}`;
  return undefined;
}

export type Outcome = { readonly results: ReadonlyMap<string, RefArray> } | { readonly refused: string };

/** Makes one call and compares it with the reference. Throws where they differ or where anything but the destinations was written. */
export async function runTrial(backend: Backend, ledger: Ledger, trial: Trial): Promise<Outcome> {
  const { op, case: c, dtype, over } = trial;
  const spec = specsOf(trial);
  const why = incapable(backend, trial, spec);
  if (why) return { refused: why };
  const fused =
    op.kind === 'fused'
      ? ((backend.fused as Record<string, FusedKernel<OpTypes> | undefined>)[op.name] ?? null)
      : undefined;
  if (fused === null) return { refused: `no fused kernel for ${op.name}` };
  const accepted = fused?.accepts(spec) ?? true;
  if (accepted !== true) return accepted;

  const inputs = makeInputs(c, dtype, op.name);
  const expected = new Map(leaves<RefArray>(op.reference(inputs, spec.attrs)).map(({ path, value }) => [path, value]));
  const inferred = leaves<TensorSpec>(spec.outputs);
  for (const { path, value } of inferred) {
    const array = expected.get(path);
    if (!array || array.dtype !== value.dtype || !sameShape(array.shape, value.shape))
      throw new Error(
        `${trial.id}: the reference gives ${path} as ${array ? describeSpec(array) : 'nothing'}, the contract as ${describeSpec(value)}`,
      );
  }

  const bench = new Bench(ledger);
  try {
    const arrays = new Map(leaves<RefArray>(inputs).map(({ path, value }) => [path, value]));
    for (const { path, value } of leaves<Operand & TensorSpec>(c.inputs)) {
      const array = arrays.get(path)!;
      bench.add(`input ${path}`, array.dtype, array.shape, value.layout, array);
    }
    const place = (path: string) => (over.has(path) ? `input ${over.get(path)}` : `output ${path}`);
    for (const { path, value } of inferred)
      if (!over.has(path)) bench.add(place(path), value.dtype, value.shape, c.outputs[path] ?? 'contiguous');
    const workspace = fused?.workspace?.(spec) ?? 0;
    if (workspace) bench.add('workspace', 'u8', [workspace], 'contiguous');
    bench.place();

    const call = {
      inputs: mapLeaves(c.inputs, (_, path) => bench.view(`input ${path}`)) as object,
      outputs: mapLeaves(spec.outputs, (_, path) => bench.view(place(path))) as object,
      attrs: spec.attrs,
      ...(workspace ? { workspace: bench.view('workspace') } : {}),
    };
    const run =
      fused?.run ?? ((backend.primitives as unknown as Record<string, Kernel<OpTypes>>)[op.name] as Kernel<OpTypes>);
    run(call);
    await bench.read();

    const results = new Map(inferred.map(({ path }) => [path, bench.result(place(path))]));
    for (const [path, actual] of results) {
      const problem = mismatch(actual, expected.get(path)!, c.tolerance(dtype, path.split('.')[0]!));
      if (problem) throw new Error(`${trial.id}: ${path}: ${problem}`);
    }
    const stray = bench.strayWrite([...inferred.map(({ path }) => place(path)), ...(workspace ? ['workspace'] : [])]);
    if (stray) throw new Error(`${trial.id}: ${stray}`);
    return { results };
  } finally {
    bench.release();
  }
}

/** A plain view of a whole buffer, for suites that make calls by hand. */
export function wholeView(
  buffer: { readonly byteLength: number },
  dtype: DType,
  shape: readonly number[],
  byteOffset = 0,
) {
  return { buffer, byteOffset, dtype, shape, strides: contiguousStrides(shape) };
}
