import type { Call } from './contract.ts';
import { bytesOf, type DType } from './dtype.ts';
import { check } from './error.ts';
import { describe, isContiguous, sizeOf, type View } from './view.ts';

/** How elements of all ranks become one. `mean` is the sum divided by the number of ranks, of floats alone. */
export type CollectiveReduceOp = 'sum' | 'max' | 'mean';
export const collectiveReduceOps: readonly CollectiveReduceOp[] = ['sum', 'max', 'mean'];

/** dtypes that travel between devices. */
export const collectiveDTypes: readonly DType[] = ['f32', 'f16', 'bf16', 'i32'];

/**
 * The collectives, with operands as kernels have them. Views are contiguous, x and y of one dtype, and every rank of the group calls with
 * the same shapes, dtype and attributes in the same order. x and y may not overlap, but for the one place that each op names.
 */
export interface CollectiveOps {
  /** y of every rank = the reduction of all x. Shapes are alike; y may be x. */
  allReduce: { inputs: { x: View }; outputs: { y: View }; attrs: { op: CollectiveReduceOp } };
  /** y = the x of all ranks, by rank, one after the other on the first axis. x may be this rank's part of y. */
  allGather: { inputs: { x: View }; outputs: { y: View }; attrs: Record<never, never> };
  /** Cuts x on its first axis in as many parts as there are ranks; y = the reduction of this rank's part. y may be that part of x. */
  reduceScatter: { inputs: { x: View }; outputs: { y: View }; attrs: { op: CollectiveReduceOp } };
  /** y of every rank = x of rank `root`; elsewhere x is not read. Shapes are alike; y may be x. */
  broadcast: { inputs: { x: View }; outputs: { y: View }; attrs: { root: number } };
}
export type CollectiveName = keyof CollectiveOps;
export const collectiveNames: readonly CollectiveName[] = ['allReduce', 'allGather', 'reduceScatter', 'broadcast'];

/** This device's place among those that work together. */
export interface GroupPlace {
  /** From 0 to size − 1. */
  readonly rank: number;
  readonly size: number;
}

/** A group that this device has joined. Its ops are kernels: they enqueue in stream order, may be recorded, and are never waited for. */
export interface CollectiveGroup extends GroupPlace {
  readonly ops: { readonly [C in CollectiveName]: (call: Call<CollectiveOps[C]>) => void };
  /**
   * Resolves when this rank's work is done and it has left; other ranks leave too. Recordings with the group's ops are released before. Later calls
   * throw. Rejects where the group had failed, or where the others do not come: this rank is out of it then too.
   */
  leave(): Promise<void>;
}

export interface JoinOptions extends GroupPlace {
  /** What rank 0 got from {@link Collectives.createId}. */
  readonly id: Uint8Array;
  /**
   * Milliseconds that this rank waits for the others: to join, in each op, and to leave. When they are over the group has failed: what waits for
   * the device rejects, and the group's ops throw. 600 000 where absent.
   */
  readonly timeoutMs?: number;
}

/** Communication between the devices of one job. */
export interface Collectives {
  /** Makes the name of a new group, once, on one rank; the caller brings the bytes to the others. Throws where the library for it is missing. */
  createId(): Uint8Array;
  /** Resolves when all ranks have joined. */
  join(options: JoinOptions): Promise<CollectiveGroup>;
}

/** Milliseconds that a rank waits for the others where nothing is said. */
export const defaultTimeoutMs = 600_000;

/** Throws unless rank, size and patience are whole numbers that can be. */
export function checkPlace({ rank, size, timeoutMs = defaultTimeoutMs }: Omit<JoinOptions, 'id'>): void {
  check(Number.isInteger(size) && size >= 1, 'join', 'a group has one rank or more', () => `size ${size}`);
  check(
    Number.isInteger(rank) && rank >= 0 && rank < size,
    'join',
    'a rank lies below the size',
    () => `rank ${rank} of ${size}`,
  );
  check(
    Number.isInteger(timeoutMs) && timeoutMs >= 1 && timeoutMs < 2 ** 31,
    'join',
    'the timeout is milliseconds, a whole number',
    () => `timeoutMs ${timeoutMs}`,
  );
}

/** Throws unless a collective may be called so; every backend calls it first. */
export function checkCollective<C extends CollectiveName>(
  name: C,
  { rank, size }: GroupPlace,
  call: Call<CollectiveOps[C]>,
): void {
  const { x } = call.inputs;
  const { y } = call.outputs;
  const facts = () => `x ${describe(x)}, y ${describe(y)}, ${size} ranks`;
  check(x.dtype === y.dtype, name, 'x and y have one dtype', facts);
  check(collectiveDTypes.includes(x.dtype), name, 'the dtype does not travel', facts, 'f32, f16, bf16 and i32 do');
  check(isContiguous(x) && isContiguous(y), name, 'x and y are contiguous', facts, 'Copy the view first');
  const [small, large] = name === 'allGather' ? [x, y] : name === 'reduceScatter' ? [y, x] : [x, undefined];
  if (large) {
    const [first = 0, ...rest] = small.shape;
    check(
      small.shape.length > 0 && large.shape.join() === [first * size, ...rest].join(),
      name,
      `${large === y ? 'y' : 'x'} is as long as all ranks' parts`,
      facts,
    );
  } else check(x.shape.join() === y.shape.join(), name, 'x and y have one shape', facts);
  const attrs = call.attrs as { op?: unknown; root?: unknown };
  if (name === 'broadcast')
    check(
      Number.isInteger(attrs.root) && (attrs.root as number) >= 0 && (attrs.root as number) < size,
      name,
      'root is a rank of the group',
      () => `root ${attrs.root} of ${size}`,
    );
  if (name === 'allReduce' || name === 'reduceScatter') {
    check(
      collectiveReduceOps.includes(attrs.op as CollectiveReduceOp),
      name,
      'unknown reduction',
      () => String(attrs.op),
      'Known: sum, max, mean',
    );
    check(attrs.op !== 'mean' || x.dtype !== 'i32', name, 'a mean is of floats', facts);
  }
  check(
    apart(x, y, large, rank),
    name,
    'x and y overlap',
    facts,
    "They may be one view, or this rank's part of the other",
  );
}

/** True where no byte is both read and written by different elements. */
function apart(x: View, y: View, large: View | undefined, rank: number): boolean {
  if (x.buffer !== y.buffer) return true;
  const bytes = (v: View) => sizeOf(v.shape) * bytesOf[v.dtype];
  const [a, b] = [bytes(x), bytes(y)];
  if (x.byteOffset + a <= y.byteOffset || y.byteOffset + b <= x.byteOffset) return true;
  if (!large) return x.byteOffset === y.byteOffset;
  const small = large === x ? y : x;
  return small.byteOffset === large.byteOffset + rank * Math.min(a, b);
}
