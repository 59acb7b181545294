import {
  bytesOf,
  type DType,
  dtypes,
  extentBytes,
  LowrankError,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { maxRank, type Range } from './commands.ts';
import type { CudaBuffer } from './memory.ts';

/** Codes of dtypes in kernels: their place in `dtypes`. */
export const codeOf = Object.fromEntries(dtypes.map((d, i) => [d, i])) as Readonly<Record<DType, number>>;

/** The memory that a view reaches. */
export function rangeOf(view: View): Range {
  return { memory: (view.buffer as CudaBuffer).handle, offset: view.byteOffset, bytes: extentBytes(view) };
}

export interface Joined {
  /** At least one axis. */
  readonly shape: readonly number[];
  /** Strides of each operand. */
  readonly strides: readonly (readonly number[])[];
}

/**
 * The same elements with fewer axes: axes of length 1 go, neighbours merge where every operand allows it. With `order`, axes are put in
 * order of the given operand's strides first, the smallest innermost (for ops where the index of an element does not matter).
 */
export function join(shape: readonly number[], strides: readonly (readonly number[])[], order?: number): Joined {
  let axes = [...shape.keys()].filter((i) => shape[i] !== 1);
  if (order !== undefined) {
    const by = strides[order]!;
    axes = axes
      .map((a, i) => ({ a, i }))
      .sort((p, q) => by[q.a]! - by[p.a]! || p.i - q.i)
      .map(({ a }) => a);
  }
  const sizes: number[] = [];
  const out: number[][] = strides.map(() => []);
  for (const axis of axes) {
    const last = sizes.length - 1;
    const size = shape[axis]!;
    if (last >= 0 && strides.every((s, o) => out[o]![last] === s[axis]! * size)) {
      sizes[last]! *= size;
      for (const [o, s] of strides.entries()) out[o]![last] = s[axis]!;
    } else {
      sizes.push(size);
      for (const [o, s] of strides.entries()) out[o]!.push(s[axis]!);
    }
  }
  if (sizes.length === 0) {
    sizes.push(1);
    for (const s of out) s.push(1);
  }
  if (sizes.length > maxRank)
    throw new LowrankError(
      'cuda',
      `a view has more than ${maxRank} axes that do not merge`,
      `[${shape}]`,
      'Make it contiguous first',
    );
  return { shape: sizes, strides: out };
}

/** True when 16 bytes at the start of each view, and at each eighth element, may be moved at once. */
export function aligned(...views: readonly Pick<View, 'byteOffset'>[]): boolean {
  return views.every((v) => v.byteOffset % 16 === 0);
}

/** Rows of a matrix: the last axis contiguous, all others merged into one stride. */
export interface Rows {
  readonly rows: number;
  readonly width: number;
  /** Elements between rows. */
  readonly pitch: number;
}

/** `spec` as rows, or undefined where it has none. */
export function rowsOf(spec: TensorSpec): Rows | undefined {
  const rank = spec.shape.length;
  if (rank === 0) return { rows: 1, width: 1, pitch: 1 };
  const width = spec.shape[rank - 1]!;
  const rows = sizeOf(spec.shape.slice(0, -1));
  if (rows === 0 || width === 0) return { rows, width, pitch: width };
  if (width > 1 && spec.strides[rank - 1] !== 1) return undefined;
  const lead = join(spec.shape.slice(0, -1), [spec.strides.slice(0, -1)]);
  if (lead.shape.length > 1) return undefined;
  return { rows, width, pitch: rows === 1 ? width : lead.strides[0]![0]! };
}

/** True when rows may be moved in 16-byte pieces of eight elements. */
export function wide(
  width: number,
  ...operands: readonly { readonly view: Pick<View, 'byteOffset'>; readonly pitch: number }[]
): boolean {
  return width % 8 === 0 && operands.every(({ view, pitch }) => view.byteOffset % 16 === 0 && pitch % 8 === 0);
}

/** The same memory seen with another shape. */
export function reshaped(view: View, shape: readonly number[], strides: readonly number[], elements = 0): View {
  return {
    buffer: view.buffer,
    dtype: view.dtype,
    byteOffset: view.byteOffset + elements * bytesOf[view.dtype],
    shape,
    strides,
  };
}
