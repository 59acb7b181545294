/** What a rank of a group does to see that the collectives are right: on the driver without a GPU, and on GPUs (scripts/gpu/collectives.ts). */
import { createHash, type Hash } from 'node:crypto';
import {
  type Backend,
  bytesOf,
  type CollectiveGroup,
  type CollectiveName,
  type CollectiveReduceOp,
  collectiveDTypes,
  contiguousStrides,
  type DType,
  decode,
  encode,
  sizeOf,
  type View,
} from '@lowrank/tensor';

/** Whole numbers whose sums and halves are exact in every dtype, different on each rank. */
const sample = (rank: number, i: number): number => ((i * 7 + rank * 5 + (i >> 8)) % 17) - 8;

const numbers = (rank: number, from: number, count: number): Float32Array => {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = sample(rank, from + i);
  return out;
};

/** What element i of all ranks comes to, in plain loops. */
function reduced(size: number, op: CollectiveReduceOp, from: number, count: number): Float32Array {
  const out = numbers(0, from, count);
  for (let rank = 1; rank < size; rank++)
    for (let i = 0; i < count; i++) {
      const v = sample(rank, from + i);
      out[i] = op === 'max' ? Math.max(out[i]!, v) : out[i]! + v;
    }
  return op === 'mean' ? out.map((v) => v / size) : out;
}

function gathered(size: number, count: number): Float32Array {
  const out = new Float32Array(size * count);
  for (let rank = 0; rank < size; rank++) out.set(numbers(rank, 0, count), rank * count);
  return out;
}

export function empty(backend: Backend, shape: readonly number[], dtype: DType, before = 0): View {
  const bytes = sizeOf(shape) * bytesOf[dtype];
  return {
    buffer: backend.memory.allocate(Math.max(before * bytesOf[dtype] + bytes, 4)),
    byteOffset: before * bytesOf[dtype],
    dtype,
    shape,
    strides: contiguousStrides(shape),
  };
}

const write = (backend: Backend, view: View, values: Float32Array) =>
  backend.memory.write(view.buffer, view.byteOffset, encode(values, view.dtype));
const read = (backend: Backend, view: View) =>
  backend.memory.read(view.buffer, view.byteOffset, sizeOf(view.shape) * bytesOf[view.dtype]);

const attributes: Readonly<Record<CollectiveName, readonly object[]>> = {
  allReduce: [{ op: 'sum' }, { op: 'max' }, { op: 'mean' }],
  allGather: [{}],
  reduceScatter: [{ op: 'sum' }, { op: 'max' }, { op: 'mean' }],
  broadcast: [{ root: 0 }, { root: -1 }],
};

/** One op, out of place and in place. Gives what is wrong, if anything. */
async function one(
  backend: Backend,
  { rank, size, ops }: CollectiveGroup,
  name: CollectiveName,
  attrs: object,
  dtype: DType,
  count: number,
  hash: Hash,
): Promise<string[]> {
  const run = ops[name] as (call: { inputs: { x: View }; outputs: { y: View }; attrs: object }) => void;
  const [whole, op] = [count * size, (attrs as { op?: CollectiveReduceOp }).op ?? 'sum'];
  const [ins, outs] = name === 'reduceScatter' ? [whole, count] : [count, name === 'allGather' ? whole : count];
  const given = numbers(rank, 0, ins);
  const root = (attrs as { root?: number }).root ?? 0;
  const want =
    name === 'allReduce'
      ? reduced(size, op, 0, count)
      : name === 'reduceScatter'
        ? reduced(size, op, rank * count, count)
        : name === 'broadcast'
          ? numbers(root, 0, count)
          : gathered(size, count);
  const wrong: string[] = [];
  const check = async (y: View, how: string) => {
    const bytes = await read(backend, y);
    hash.update(bytes);
    const got = decode(bytes, dtype);
    const at = want.findIndex((w, i) => got[i] !== w);
    if (at >= 0)
      wrong.push(`${name} ${JSON.stringify(attrs)} ${dtype} ${count} ${how}: [${at}] is ${got[at]}, not ${want[at]}`);
  };
  // Three elements before x and y: addresses that are no multiple of 16 bytes.
  const [x, y] = [empty(backend, [ins], dtype, 3), empty(backend, [outs], dtype, 3)];
  write(backend, x, given);
  run({ inputs: { x }, outputs: { y }, attrs });
  await check(y, 'apart');
  const same = await read(backend, x);
  if (Buffer.compare(same, encode(given, dtype)) !== 0) wrong.push(`${name} ${dtype} ${count}: x has changed`);
  for (const v of [x, y]) backend.memory.release(v.buffer);

  const both = empty(backend, [Math.max(ins, outs)], dtype);
  const part: View = { ...both, shape: [count], byteOffset: rank * count * bytesOf[dtype] };
  const [from, to] = name === 'allGather' ? [part, both] : name === 'reduceScatter' ? [both, part] : [both, both];
  write(backend, from, given);
  run({ inputs: { x: from }, outputs: { y: to }, attrs });
  await check(to, 'in place');
  backend.memory.release(both.buffer);
  return wrong;
}

/** All ops on all dtypes, or those that `only` takes (`allReduce {"op":"sum"} f32`): what is wrong, and a hash of all that came out. */
export async function everything(
  backend: Backend,
  group: CollectiveGroup,
  counts: readonly number[],
  only = '',
): Promise<{ readonly cases: number; readonly wrong: readonly string[]; readonly hash: string }> {
  const hash = createHash('sha256');
  const wrong: string[] = [];
  let cases = 0;
  for (const count of counts)
    for (const name of Object.keys(attributes) as CollectiveName[])
      for (const dtype of collectiveDTypes)
        for (const given of attributes[name]) {
          if (dtype === 'i32' && (given as { op?: string }).op === 'mean') continue;
          const attrs = (given as { root?: number }).root === -1 ? { root: group.size - 1 } : given;
          if (!`${name} ${JSON.stringify(attrs)} ${dtype}`.includes(only)) continue;
          wrong.push(...(await one(backend, group, name, attrs, dtype, count, hash)));
          cases++;
        }
  return { cases, wrong, hash: hash.digest('hex') };
}

/** A step with collectives between kernels, as numbers fall: eager, then recorded and replayed on the same input. The bits must agree. */
export async function recordedStep(
  backend: Backend,
  { rank, ops, size }: CollectiveGroup,
  count: number,
): Promise<{ readonly same: boolean; readonly changed: boolean; readonly hash: string; release(): void }> {
  const [x, y, z] = [empty(backend, [count], 'f32'), empty(backend, [count], 'f32'), empty(backend, [count], 'f32')];
  const all = empty(backend, [count * size], 'f32');
  const values = (seed: number) => {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = Math.sin(i * 0.37 + rank + seed) / 3;
    return out;
  };
  const step = () => {
    backend.primitives.unary({ inputs: { x }, outputs: { y }, attrs: { op: 'exp' } });
    ops.allReduce({ inputs: { x: y }, outputs: { y: z }, attrs: { op: 'mean' } });
    backend.primitives.binary({ inputs: { a: z, b: x }, outputs: { y }, attrs: { op: 'mul' } });
    ops.allReduce({ inputs: { x: y }, outputs: { y }, attrs: { op: 'sum' } });
    ops.allGather({ inputs: { x: y }, outputs: { y: all }, attrs: {} });
  };
  const outcome = async (seed: number, run: () => void) => {
    write(backend, x, values(seed));
    run();
    return createHash('sha256')
      .update(await read(backend, y))
      .update(await read(backend, all))
      .digest('hex');
  };
  const eager = await outcome(1, step);
  const record = backend.record!;
  record.begin();
  step();
  const recording = record.end();
  // Another input in between: a replay that did nothing would be seen.
  const other = await outcome(2, () => recording.replay());
  const replayed = await outcome(1, () => recording.replay());
  const again = await outcome(1, () => recording.replay());
  return {
    same: eager === replayed && eager === again,
    changed: other !== eager,
    hash: eager,
    release() {
      recording.release();
      for (const v of [x, y, z, all]) backend.memory.release(v.buffer);
    },
  };
}
