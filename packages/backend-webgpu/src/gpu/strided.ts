import { bytesOf, extentBytes, sizeOf, type View } from '@lowrank/kernels';
import type { Arg, Bound, ElementType, Launcher } from './launcher.ts';
import { sizeOfType } from './launcher.ts';
import { collapse, four } from './shape.ts';
import type { Defines } from './source.ts';

/** Operands with strides over the shape that is walked. `y` is written. */
export type StridedName = 'y' | 'a' | 'b' | 'c' | 'd';
const names: readonly StridedName[] = ['y', 'a', 'b', 'c', 'd'];

export interface StridedOperand {
  readonly view: View;
  /** Over the walked shape, where they are not the view's own. */
  readonly strides?: readonly number[];
  readonly type?: ElementType;
  readonly write?: boolean;
  /** Elements that the kernel goes beyond the walked shape. */
  readonly reach?: number;
}

/** An operand that the kernel indexes itself; its offset goes into the word of that name. */
export interface ExtraOperand {
  readonly view: View;
  readonly type?: ElementType;
  readonly offset?: 'u0' | 'u1' | 'u2' | 'u3';
}

/** What `common/wgsl/strided.wgsl` has beside shapes and strides. */
export interface Words {
  u0?: number;
  u1?: number;
  u2?: number;
  u3?: number;
  f0?: number;
  f1?: number;
  f2?: number;
  f3?: number;
}

export interface Strided {
  readonly op: string;
  readonly file: string;
  readonly shape: readonly number[];
  /** Row-major index of the first element, where the shape is the end of a longer one. */
  readonly start?: number;
  readonly y: StridedOperand;
  readonly a?: StridedOperand | undefined;
  readonly b?: StridedOperand | undefined;
  readonly c?: StridedOperand | undefined;
  readonly d?: StridedOperand | undefined;
  readonly extras?: Readonly<Record<string, ExtraOperand | undefined>>;
  readonly defines?: Defines;
  readonly words?: Words;
}

const repeat = (n: number): number[] => new Array<number>(n).fill(0);

function stridesOf(operand: StridedOperand, shape: readonly number[]): readonly number[] {
  return operand.strides ?? (operand.view.shape.length === shape.length ? operand.view.strides : repeat(shape.length));
}

/** Raw storage of a dtype, for kernels that move elements without reading them. */
export function rawType(view: View): ElementType {
  return ({ 1: 'u8', 2: 'u16', 4: 'u32' } as const)[bytesOf[view.dtype] as 1 | 2 | 4];
}

/** Writes the struct of `common/wgsl/strided.wgsl`. */
function stridedParams(
  launcher: Launcher,
  shape: readonly number[],
  strides: Readonly<Partial<Record<StridedName, readonly number[]>>>,
  offsets: Readonly<Partial<Record<StridedName, number>>>,
  work: { start?: number; units: number; words?: number; phase?: number },
  { u0 = 0, u1 = 0, u2 = 0, u3 = 0, f0 = 0, f1 = 0, f2 = 0, f3 = 0 }: Words,
): void {
  const p = launcher.params.start();
  p.u32(...four(shape, 1));
  for (const name of names) p.u32(...four(strides[name] ?? [], 0));
  for (const name of names) p.u32(offsets[name] ?? 0);
  p.u32(work.start ?? 0, work.units, work.words ?? 0, work.phase ?? 0, u0, u1, u2, u3).f32(f0, f1, f2, f3);
}

export interface Present {
  readonly name: StridedName;
  readonly operand: StridedOperand;
  readonly strides: readonly number[];
}

/**
 * Runs an elementwise kernel over any shape and strides. Sub-word elements of y are made by the owner of their word where rows of y are
 * contiguous and begin on words, and by atomics elsewhere. Parts that no binding holds, and axes beyond four, are dispatched one by one.
 */
export function elementwise(launcher: Launcher, e: Strided): void {
  if (sizeOf(e.shape) === 0) return;
  const present = presentOperands(e);
  const axes = collapse(
    e.shape,
    present.map((p) => p.strides),
  );
  walk(
    launcher,
    e,
    axes.shape,
    present.map((p, i) => ({ ...p, strides: axes.strides[i]! })),
    e.start ?? 0,
  );
}

function walk(
  launcher: Launcher,
  e: Strided,
  shape: readonly number[],
  present: readonly Present[],
  start: number,
): void {
  const tooBig = present.some(({ operand, strides }) => !fits(launcher, operand, shape, strides));
  if (shape.length <= 4 && !tooBig) {
    dispatch(launcher, e, shape, present, start);
    return;
  }
  const rest = sizeOf(shape.slice(1));
  // Halves while that helps, else one index of the first axis after another.
  for (const part of cut(shape, present, shape.length > 4 ? 1 : Math.ceil(shape[0]! / 2)))
    walk(launcher, e, part.shape, part.present, start + part.at * rest);
}

/** Pieces of the first axis, `size` indices each; the axis goes away where it would be 1 long. */
export function* cut(
  shape: readonly number[],
  present: readonly Present[],
  size: number,
): Generator<{ at: number; shape: readonly number[]; present: readonly Present[] }> {
  const first = shape[0]!;
  for (let at = 0; at < first; at += size) {
    const count = Math.min(size, first - at);
    yield {
      at,
      shape: count === 1 ? shape.slice(1) : [count, ...shape.slice(1)],
      present: present.map((p) => ({
        ...p,
        operand: { ...p.operand, view: moved(p.operand.view, at * p.strides[0]!) },
        strides: count === 1 ? p.strides.slice(1) : p.strides,
      })),
    };
  }
}

/** A view that starts so many elements later. */
export function moved<V extends View>(view: V, elements: number): V {
  if (elements === 0) return view;
  return { ...view, byteOffset: view.byteOffset + elements * bytesOf[view.dtype] };
}

/** The view that stands for all that a kernel reaches of an operand. */
function reached({ view, reach }: StridedOperand, shape: readonly number[], strides: readonly number[]): View {
  return reach ? { ...view, shape: [...shape, 2], strides: [...strides, reach] } : { ...view, shape, strides };
}

/** Whether one binding holds all that a kernel reaches of an operand. */
export function fits(
  launcher: Launcher,
  operand: StridedOperand,
  shape: readonly number[],
  strides: readonly number[],
): boolean {
  const { maxBinding } = launcher.gpu;
  if (operand.view.buffer.byteLength <= maxBinding) return true;
  return sizeOf(shape) === 1 || extentBytes(reached(operand, shape, strides)) + 256 <= maxBinding;
}

/** How sub-word elements of y are stored: elements a word, those of the first word that are others', or one by one with atomics. */
function packing(
  y: View,
  type: ElementType,
  shape: readonly number[],
  strides: readonly number[],
): { pack: number; phase: number; atomic: boolean } {
  const perWord = 4 / sizeOfType[type];
  if (perWord === 1) return { pack: 1, phase: 0, atomic: false };
  const phase = (y.byteOffset / sizeOfType[type]) % perWord;
  const last = shape.length - 1;
  const rows = last < 0 || (strides[last] === 1 && strides.every((s, i) => i === last || s % perWord === 0));
  const single = shape.length <= 1;
  if (rows && (single || phase === 0)) return { pack: perWord, phase, atomic: false };
  return { pack: 1, phase: 0, atomic: true };
}

function dispatch(
  launcher: Launcher,
  e: Strided,
  shape: readonly number[],
  present: readonly Present[],
  start: number,
): void {
  const y = present[0]!;
  const { pack, phase, atomic } = packing(y.operand.view, y.operand.type ?? y.operand.view.dtype, shape, y.strides);
  const { args, bound } = bindStrided(launcher, e, present, shape, atomic);
  const columns = shape[shape.length - 1] ?? 1;
  const words = Math.ceil((columns + phase) / pack);
  const units = (sizeOf(shape) / columns) * words;
  finish(launcher, e, args, bound, present, shape, { start, units, words, phase });
  // Large tensors give each invocation some units at a time, so that loads overlap.
  const each = units >= 2 ** 20 ? 4 : 1;
  const defines = { PACK: pack, FLAT: shape.length <= 1, EACH: each, ...e.defines };
  launcher.launchFlat(bound, e.file, defines, Math.ceil(units / (256 * each)));
}

/** Binds strided and extra operands; views stand for what the walked shape reaches. */
export function bindStrided(
  launcher: Launcher,
  e: Pick<Strided, 'op' | 'extras'>,
  present: readonly Present[],
  shape: readonly number[],
  atomic: boolean,
): { args: Arg[]; bound: Bound } {
  const args: Arg[] = present.map(({ name, operand, strides }) => ({
    name,
    view: reached(operand, shape, strides),
    write: name === 'y' || (operand.write ?? false),
    atomic: name === 'y' && atomic,
    ...(operand.type && { type: operand.type }),
  }));
  for (const [name, extra] of Object.entries(e.extras ?? {}))
    if (extra) args.push({ name, view: extra.view, ...(extra.type && { type: extra.type }) });
  return { args, bound: launcher.bind(e.op, args) };
}

export function finish(
  launcher: Launcher,
  e: Pick<Strided, 'extras' | 'words'>,
  args: readonly Arg[],
  bound: Bound,
  present: readonly Present[],
  shape: readonly number[],
  work: { start?: number; units: number; words?: number; phase?: number },
): void {
  const strides: Partial<Record<StridedName, readonly number[]>> = {};
  const offsets: Partial<Record<StridedName, number>> = {};
  present.forEach((p, i) => {
    strides[p.name] = p.strides;
    offsets[p.name] = bound.offsets[i]!;
  });
  const words: Words = { ...e.words };
  args.forEach(({ name }, i) => {
    const where = e.extras?.[name]?.offset;
    if (where) words[where] = bound.offsets[i]!;
  });
  stridedParams(launcher, shape, strides, offsets, work, words);
}

/** Names, operands and strides of what a strided call has. */
export function presentOperands(e: Strided): Present[] {
  return names.flatMap((name) => {
    const operand = e[name];
    return operand ? [{ name, operand, strides: stridesOf(operand, e.shape) }] : [];
  });
}
