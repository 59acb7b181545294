import { type MapOperands, mapLeaves, type OpTypes } from './contract.ts';
import { type DType, floatDTypes } from './dtype.ts';
import { roundTo } from './half.ts';
import type { RefArray } from './reference.ts';
import { sizeOf } from './view.ts';

/**
 * How a tensor lies in memory. `offset`: row-major, one element past an aligned address. `sliced`: a window of odd pitch and odd start.
 * `window`: a window whose start and pitch are multiples of 16 elements (a head of a joint projection). `stepped`: every second element.
 * `transposed`: the last two axes swapped in memory.
 */
export type Layout = 'contiguous' | 'offset' | 'sliced' | 'window' | 'stepped' | 'transposed' | CustomLayout;

export interface CustomLayout {
  /** Axes from the outermost to the innermost in memory; row-major where absent. */
  readonly order?: readonly number[];
  /** Elements left free behind each axis. */
  readonly pad?: readonly number[];
  /** Of the innermost axis. */
  readonly step?: number;
  /** Elements before the first. */
  readonly start?: number;
  /** Axes with stride 0 (inputs only): one value repeats. */
  readonly broadcast?: readonly number[];
}

/** Strides of a shape under a layout, elements before the first one, and elements that the whole window takes. */
export function layOut(
  shape: readonly number[],
  layout: Layout,
): { strides: number[]; start: number; length: number; broadcast: readonly number[] } {
  const { order, pad, step = 1, start = 0, broadcast = [] } = customLayout(shape.length, layout);
  const strides = new Array<number>(shape.length).fill(0);
  let length = step;
  for (const axis of [...(order ?? shape.keys())].reverse()) {
    if (broadcast.includes(axis)) continue;
    strides[axis] = length;
    length *= shape[axis]! + (pad?.[axis] ?? 0);
  }
  return { strides, start, length: start + length, broadcast };
}

function customLayout(rank: number, layout: Layout): CustomLayout {
  const last = (pad: number) => Array.from({ length: rank }, (_, i) => (i === rank - 1 ? pad : 0));
  switch (layout) {
    case 'contiguous':
      return {};
    case 'offset':
      return { start: 1 };
    case 'sliced':
      return { pad: last(3), start: 1 };
    case 'window':
      return { pad: last(48), start: 16 };
    case 'stepped':
      return { step: 2, start: 1 };
    case 'transposed': {
      const axes = [...new Array<number>(rank).keys()];
      return rank < 2 ? {} : { order: [...axes.slice(0, -2), rank - 1, rank - 2] };
    }
    default:
      return layout;
  }
}

/** Uniform numbers in [0, 1), from a seed: mulberry32. Only test data come from here; ops use Philox. */
export type Rng = () => number;

function mulberry32(seed: number): Rng {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** Makes the numbers of an operand; `made` holds the operands before it, by path. They are rounded to the operand's dtype afterwards. */
export type Values = (
  rng: Rng,
  count: number,
  made: Readonly<Record<string, RefArray>>,
  attrs: object,
) => ArrayLike<number>;

/** An input of a case: its dtype (`T`: the dtype of the run), shape, numbers and memory layout. */
export interface Operand {
  readonly dtype: DType | 'T';
  readonly shape: readonly number[];
  readonly values: Values;
  readonly layout: Layout;
}

export const normal =
  (scale = 1, mean = 0): Values =>
  (rng, count) =>
    Float64Array.from({ length: count }, () => {
      const r = Math.sqrt(-2 * Math.log(1 - rng()));
      return mean + scale * r * Math.cos(2 * Math.PI * rng());
    });

/** In [low, high). */
export const uniform =
  (low: number, high: number): Values =>
  (rng, count) =>
    Float64Array.from({ length: count }, () => low + (high - low) * rng());

/** low … high − 1. */
export const integers =
  (low: number, high: number): Values =>
  (rng, count) =>
    Float64Array.from({ length: count }, () => low + Math.floor((high - low) * rng()));

/** These numbers, again and again. */
export const listed =
  (...list: readonly number[]): Values =>
  (_, count) =>
    Float64Array.from({ length: count }, (_, i) => list[i % list.length]!);

/** Normal numbers, but for those at the given places: NaN and infinities must go where arithmetic takes them. */
export const spiked =
  (at: Readonly<Record<number, number>>, base: Values = normal()): Values =>
  (...from) => {
    const out = Float64Array.from(base(...from));
    for (const [i, v] of Object.entries(at)) out[Number(i)] = v;
    return out;
  };

interface Options {
  readonly values?: Values;
  readonly layout?: Layout;
}

/** An operand of the run's dtype; normal numbers unless said. */
export function t(shape: readonly number[], { values = normal(), layout = 'contiguous' }: Options = {}): Operand {
  return { dtype: 'T', shape, values, layout };
}

/** An operand of a fixed dtype. */
export function of(
  dtype: DType,
  shape: readonly number[],
  values: Values = normal(),
  layout: Layout = 'contiguous',
): Operand {
  return { dtype, shape, values, layout };
}

/**
 * How far a result may be from the reference, beyond one rounding to the output's dtype: rel·|expected| + row·(largest |expected| of the
 * row, along the last axis) + all·(largest of the tensor) + abs. `exact`: the same bits, after that rounding (any NaN equals any NaN).
 */
export type Tolerance =
  | 'exact'
  | { readonly rel?: number; readonly row?: number; readonly all?: number; readonly abs?: number };

/** Half of the distance from 1 to the next value: one rounding costs at most this share. */
export const unitRoundoff: Readonly<Record<'f32' | 'f16' | 'bf16', number>> = {
  f32: 2 ** -24,
  f16: 2 ** -11,
  bf16: 2 ** -8,
};

/**
 * For sums of products: `row` is what f32 arithmetic costs, and half of it counts against the whole tensor, since a narrow row may cancel.
 * `halfUnits` roundings to the half dtype may happen on the way where T is one.
 */
export function rowTolerance(row: number, halfUnits = 0): (t: DType) => Tolerance {
  return (t) => ({ row: row + (t === 'f16' || t === 'bf16' ? halfUnits * unitRoundoff[t] : 0), all: row / 2 });
}

/** One named call of an op, run once for each of `dtypes` in the place of `T`. */
export interface Case<O extends OpTypes> {
  readonly name: string;
  readonly dtypes: readonly DType[];
  readonly inputs: MapOperands<O['inputs'], Operand>;
  readonly attrs: (t: DType) => O['attrs'];
  /** Layouts of destinations by path; contiguous where not named. */
  readonly outputs: Readonly<Record<string, Layout>>;
  /** Run a second time with outputs over inputs, as the contract's `inplace` allows. */
  readonly inplace: boolean;
  readonly tolerance: (t: DType, output: string) => Tolerance;
}

/** A case as it is written: dtypes are the floats, destinations contiguous, the tolerance is the op's, unless said. */
export interface CaseInit<O extends OpTypes> {
  readonly name: string;
  readonly dtypes?: readonly DType[];
  readonly inputs: MapOperands<O['inputs'], Operand>;
  readonly attrs: O['attrs'] | ((t: DType) => O['attrs']);
  readonly outputs?: Readonly<Record<string, Layout>>;
  readonly inplace?: boolean;
  readonly tolerance?: (t: DType, output: string) => Tolerance;
}

export function defineCases<O extends OpTypes>(
  list: readonly CaseInit<O>[],
  tolerance: (t: DType, output: string) => Tolerance = () => 'exact',
): readonly Case<O>[] {
  const names = new Set<string>();
  return list.map((c) => {
    if (names.has(c.name)) throw new Error(`defineCases: names must differ: ${c.name}`);
    names.add(c.name);
    const { attrs } = c;
    return {
      name: c.name,
      dtypes: c.dtypes ?? floatDTypes,
      inputs: c.inputs,
      attrs: typeof attrs === 'function' ? (attrs as (t: DType) => O['attrs']) : () => attrs as O['attrs'],
      outputs: c.outputs ?? {},
      inplace: c.inplace ?? false,
      tolerance: c.tolerance ?? tolerance,
    };
  });
}

/** The inputs of a case for one dtype: the same tree with arrays for operands. Deterministic in `seed` and the paths. */
export function makeInputs<O extends OpTypes>(c: Case<O>, dtype: DType, seed = ''): MapOperands<O['inputs'], RefArray> {
  const made: Record<string, RefArray> = {};
  const attrs = c.attrs(dtype);
  return mapLeaves<Operand, RefArray>(c.inputs, (operand, path) => {
    const own = operand.dtype === 'T' ? dtype : operand.dtype;
    const { broadcast } = layOut(operand.shape, operand.layout);
    const stored = operand.shape.map((d, axis) => (broadcast.includes(axis) ? Math.min(d, 1) : d));
    const rng = mulberry32(hash(`${seed}/${c.name}/${path}`));
    const values = operand.values(rng, sizeOf(stored), made, attrs);
    const data = Float64Array.from(values, (x) => roundTo(x, own));
    return (made[path] = { dtype: own, shape: operand.shape, data: expand(data, stored, operand.shape) });
  }) as MapOperands<O['inputs'], RefArray>;
}

/** Repeats axes of length 1. */
function expand(data: Float64Array, from: readonly number[], to: readonly number[]): Float64Array {
  if (from.every((d, i) => d === to[i])) return data;
  const out = new Float64Array(sizeOf(to));
  for (let i = 0; i < out.length; i++) {
    let at = 0;
    let rest = i;
    let step = 1;
    for (let axis = to.length - 1; axis >= 0; axis--) {
      const index = rest % to[axis]!;
      rest = Math.floor(rest / to[axis]!);
      if (from[axis] !== 1) at += index * step;
      step *= from[axis]!;
    }
    out[i] = data[at]!;
  }
  return out;
}
