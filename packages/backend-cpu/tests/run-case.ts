import {
  type Backend,
  bf16Code,
  bf16Value,
  bytesOf,
  type DType,
  f16Code,
  f16Value,
  fusedContracts,
  leaves,
  mapLeaves,
  primitiveContracts,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import {
  type Case,
  cases,
  layOut,
  makeInputs,
  type Operand,
  type RefArray,
  type Tolerance,
  unitRoundoff,
} from '@lowrank/kernels/testing';

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

function get(data: DataView, at: number, dtype: DType): number {
  if (dtype === 'f32') return data.getFloat32(at, true);
  if (dtype === 'f16') return f16Value(data.getUint16(at, true));
  if (dtype === 'bf16') return bf16Value(data.getUint16(at, true));
  if (dtype === 'u8') return data.getUint8(at);
  return dtype === 'i32' ? data.getInt32(at, true) : data.getUint32(at, true);
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

export interface Outcome {
  /** Bytes of each output's buffer by path. */
  readonly bytes: Readonly<Record<string, Uint8Array>>;
  readonly values: Readonly<Record<string, Float64Array>>;
  readonly dtypes: Readonly<Record<string, DType>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Bytes beside an output that changed. */
  readonly spilt: readonly string[];
}

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
  const outcome = {
    bytes: {} as Record<string, Uint8Array>,
    values: {} as Record<string, Float64Array>,
    dtypes: {} as Record<string, DType>,
    shapes: {} as Record<string, readonly number[]>,
    spilt: [] as string[],
  };
  for (const [path, { view, bytes: before }] of outs) {
    const bytes = await backend.memory.read(view.buffer, 0, before.byteLength);
    const data = new DataView(bytes.buffer);
    const size = bytesOf[view.dtype];
    const own = new Uint8Array(before.byteLength);
    const values: number[] = [];
    for (const at of offsets(view.shape, view.strides, view.byteOffset / size, size)) {
      values.push(get(data, at, view.dtype));
      own.fill(1, at, at + size);
    }
    if (bytes.some((b, i) => !own[i] && b !== before[i])) outcome.spilt.push(path);
    outcome.bytes[path] = bytes;
    outcome.values[path] = Float64Array.from(values);
    outcome.dtypes[path] = view.dtype;
    outcome.shapes[path] = view.shape;
  }
  for (const { view } of new Set([...placed.values(), ...outs.values()])) backend.memory.release(view.buffer);
  return outcome;
}

/** How far results are from the reference, as a message; undefined where all is well. */
export function compare(
  actual: Float64Array,
  expected: ArrayLike<number>,
  shape: readonly number[],
  dtype: DType,
  tolerance: Tolerance,
): string | undefined {
  const width = Math.max(1, shape.at(-1) ?? 1);
  const finite = (x: number) => (Number.isFinite(x) ? Math.abs(x) : 0);
  const largest = Array.from(expected).reduce((m, x) => Math.max(m, finite(x)), 0);
  const round =
    dtype === 'f16'
      ? (x: number) => f16Value(f16Code(x))
      : dtype === 'bf16'
        ? (x: number) => bf16Value(bf16Code(x))
        : dtype === 'f32'
          ? Math.fround
          : (x: number) => x;
  let rowMax = 0;
  for (let i = 0; i < actual.length; i++) {
    if (i % width === 0) {
      rowMax = 0;
      for (let j = i; j < Math.min(actual.length, i + width); j++) rowMax = Math.max(rowMax, finite(expected[j]!));
    }
    const [x, e] = [actual[i]!, expected[i]!];
    const r = round(e);
    if (Object.is(x, r) || (x === r && tolerance !== 'exact') || (x === 0 && r === 0)) continue;
    const fail = `element ${i} of [${shape}] ${dtype}: ${x}, expected ${e}`;
    if (Number.isNaN(e) || Number.isNaN(x) || !Number.isFinite(r) || !Number.isFinite(x)) {
      if (Number.isNaN(e) && Number.isNaN(x)) continue;
      return fail;
    }
    if (tolerance === 'exact') return fail;
    const unit = dtype in unitRoundoff ? unitRoundoff[dtype as 'f32'] : 0;
    // Subnormal results may be flushed to zero.
    const smallest = dtype === 'f16' ? 2 ** -25 : 2 ** -126;
    const allowed =
      (tolerance.rel ?? 0) * Math.abs(e) +
      (tolerance.row ?? 0) * rowMax +
      (tolerance.all ?? 0) * largest +
      (tolerance.abs ?? 0) +
      unit * Math.abs(e) +
      smallest;
    if (Math.abs(x - e) > allowed) return `${fail}, off by ${Math.abs(x - e)}, allowed ${allowed}`;
  }
  return undefined;
}
