import {
  type Backend,
  bf16Code,
  bytesOf,
  type DType,
  f16Code,
  fusedContracts,
  leaves,
  mapLeaves,
  primitiveContracts,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { type Case, cases, layOut, makeInputs, type Operand, type RefArray } from '@lowrank/kernels/testing';

/** Every op that has cases. */
export const opNames = Object.keys(cases) as (keyof typeof cases)[];
type AnyCase = Case<never>;

function put(data: DataView, at: number, dtype: DType, x: number): void {
  if (dtype === 'f32') data.setFloat32(at, x, true);
  else if (dtype === 'f16') data.setUint16(at, f16Code(x), true);
  else if (dtype === 'bf16') data.setUint16(at, bf16Code(x), true);
  else if (dtype === 'u8') data.setUint8(at, x);
  else if (dtype === 'i32') data.setInt32(at, x, true);
  else data.setUint32(at, x, true);
}

/** Row-major elements of a window: their byte offsets. */
function* offsets(
  shape: readonly number[],
  strides: readonly number[],
  start: number,
  bytes: number,
): Generator<number> {
  const total = sizeOf(shape);
  for (let i = 0; i < total; i++) {
    let at = start;
    let rest = i;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += (rest % shape[axis]!) * strides[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    yield at * bytes;
  }
}

const FREE = 0xa5;

interface Placed {
  readonly view: View;
  readonly bytes: Uint8Array;
}

function place(
  backend: Backend,
  array: { dtype: DType; shape: readonly number[]; data?: ArrayLike<number> },
  layout: Operand['layout'],
): Placed {
  const { strides, start, length } = layOut(array.shape, layout);
  const size = bytesOf[array.dtype];
  const bytes = new Uint8Array(Math.max(1, length) * size + 64).fill(FREE);
  const data = new DataView(bytes.buffer);
  if (array.data) {
    let i = 0;
    for (const at of offsets(array.shape, strides, start, size)) put(data, at, array.dtype, array.data[i++]!);
  }
  const buffer = backend.memory.allocate(bytes.byteLength);
  backend.memory.write(buffer, 0, bytes);
  return { bytes, view: { buffer, byteOffset: start * size, dtype: array.dtype, shape: array.shape, strides } };
}

/** Bytes of each output's buffer by path. */
export type Outcome = Readonly<Record<string, Uint8Array>>;

/** Runs a case on a backend, or says why its kernel refuses. */
export async function runCase(
  backend: Backend,
  name: string,
  c: AnyCase,
  dtype: DType,
  inplace: boolean,
): Promise<Outcome | { refused: string }> {
  const contract = (
    { ...primitiveContracts, ...fusedContracts } as unknown as Record<
      string,
      { infer(inputs: unknown, attrs: unknown): unknown; inplace?: readonly (readonly [string, string])[] }
    >
  )[name]!;
  const attrs = c.attrs(dtype);
  const arrays = makeInputs(c, dtype);
  const operands = new Map(leaves<Operand>(c.inputs as object, '').map((l) => [l.path, l.value]));
  const placed = new Map<string, Placed>();
  const inputs = mapLeaves<RefArray, View>(arrays, (array, path) => {
    const p = place(backend, array, operands.get(path)!.layout);
    // Broadcast axes are written once and read everywhere.
    placed.set(path, p);
    return p.view;
  });
  const specs = contract.infer(inputs, attrs);
  const outs = new Map<string, Placed>();
  const outputs = mapLeaves<TensorSpec, View>(specs, (spec, path) => {
    const over = inplace ? contract.inplace?.find(([o]) => o === path)?.[1] : undefined;
    const p =
      over && placed.has(over)
        ? placed.get(over)!
        : place(backend, { dtype: spec.dtype, shape: spec.shape }, c.outputs[path] ?? 'contiguous');
    outs.set(path, p);
    return p.view;
  });
  const primitive = (backend.primitives as Record<string, (call: unknown) => void>)[name];
  if (primitive) primitive({ inputs, outputs, attrs });
  else {
    const kernel = (
      backend.fused as Record<
        string,
        { accepts(s: unknown): true | { refused: string }; workspace?(s: unknown): number; run(call: unknown): void }
      >
    )[name];
    if (!kernel) return { refused: 'absent' };
    const asSpec = (tree: unknown) =>
      mapLeaves<View, TensorSpec>(tree, ({ dtype, shape, strides }) => ({ dtype, shape, strides }));
    const spec = { inputs: asSpec(inputs), outputs: asSpec(outputs), attrs };
    const verdict = kernel.accepts(spec);
    if (verdict !== true) return verdict;
    const bytes = kernel.workspace?.(spec) ?? 0;
    const workspace =
      bytes > 0 ? { ...specOf([bytes], 'u8'), buffer: backend.memory.allocate(bytes), byteOffset: 0 } : undefined;
    if (workspace) backend.memory.write(workspace.buffer, 0, new Uint8Array(bytes).fill(0xff));
    kernel.run({ inputs, outputs, attrs, ...(workspace ? { workspace } : {}) });
    if (workspace) backend.memory.release(workspace.buffer);
  }
  const outcome: Record<string, Uint8Array> = {};
  for (const [path, { view, bytes }] of outs)
    outcome[path] = await backend.memory.read(view.buffer, 0, bytes.byteLength);
  for (const { view } of new Set([...placed.values(), ...outs.values()])) backend.memory.release(view.buffer);
  return outcome;
}
