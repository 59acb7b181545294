import {
  type Attention,
  type AttentionBackward,
  type Backend,
  type Refusal,
  sizeOf,
  specOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import type { Arg, Bound, Launcher } from '../gpu/launcher.ts';
import type { Scratch, Scratches } from '../gpu/scratch.ts';
import type { Defines } from '../gpu/source.ts';
import { elementwise } from '../gpu/strided.ts';
import { type AttentionVariant, matrixMemories } from '../gpu/variants.ts';
import { accessOf, storeOf } from './tiles.ts';

const maxWidth = 256;
/** Workgroups that keep a large device busy: four of its processors' own number. */
const manyGroups = 512;

/** Attention by tiles, forward and backward. */
export function attentionOps(
  launcher: Launcher,
  scratch: Scratches,
): Pick<NonNullable<Backend['fused']>, 'attention' | 'attentionBackward'> {
  return {
    attention: {
      accepts: ({ inputs: { q } }) => narrow(q),
      run: ({ inputs, outputs, attrs }) => forward(launcher, inputs, outputs, attrs),
    },
    attentionBackward: {
      accepts: ({ inputs: { q } }) => narrow(q),
      workspace: ({ inputs: { q } }) => {
        const [b, t, h] = q.shape as [number, number, number, number];
        return (b * h * t + b * t) * 8;
      },
      run: ({ inputs, outputs, attrs, workspace }) => backward(launcher, scratch, inputs, outputs, attrs, workspace),
    },
  };
}

function narrow(q: TensorSpec): true | Refusal {
  return q.shape[3]! <= maxWidth || { refused: `heads wider than ${maxWidth}` };
}

/** How blocks of [position, element] of a head are read, and how results are stored by quads. */
function access(view: View) {
  const [b, t, h, d] = view.strides as [number, number, number, number];
  return accessOf({ view, row: t, column: view.shape[3] === 1 ? 1 : d, batch: [b, h] });
}

function store(view: View) {
  const [b, t, h, d] = view.strides as [number, number, number, number];
  return storeOf({ view, row: t, column: view.shape[3] === 1 ? 1 : d, batch: [b, h] }, view.shape[3]!);
}

const readArg = (name: string, view: View): Arg => ({ name, view, vector: access(view).vector });
const writeArg = (name: string, view: View): Arg => {
  const { vector, atomic } = store(view);
  return { name, view, write: true, vector, atomic };
};

/** Whether subgroup matrices may take a tensor straight from memory: f16, heads side by side, everything else on vectors of eight. */
function onVectors(view: View): boolean {
  const [b, t, h, d] = view.strides as [number, number, number, number];
  return view.dtype === 'f16' && d === 1 && [b, t, h].every((s) => s % 8 === 0) && view.byteOffset % 16 === 0;
}

/** Bytes of workgroup memory of the kernels on subgroup matrices, forward by kind; `narrow` is that of the backward ones. */
function attentionBytes(width: number, kind: AttentionVariant): number {
  const row = (width / 8 + 1) * 16;
  if (kind === 'deep') return 64 * row + 4 * 16 * (68 * 4 + 9 * 16) + 64;
  return 64 * row + (kind === 'wide' ? 8 * (2304 + 1280) + 64 : 4 * (2 * 2304 + 1280) + 576);
}

/**
 * Which kernels on subgroup matrices take a call, if any. They take whole tiles: queries by 64, keys by 32 (as rows by 64), widths of 16 up to
 * 128.
 */
function matrixKind(
  { variants, gpu }: Launcher,
  reads: readonly View[],
  writes: readonly View[],
  rows: number,
  columns: number,
  width: number,
): AttentionVariant | undefined {
  const { attention } = variants;
  if (!attention || rows % 64 !== 0 || columns % 32 !== 0 || width % 16 !== 0 || width > 128) return undefined;
  if (!reads.every((r) => onVectors(r) && writes.every((w) => w.buffer !== r.buffer))) return undefined;
  const fits = (kind: AttentionVariant) => attentionBytes(width, kind) <= gpu.workgroupBytes;
  if (!fits('narrow')) return undefined;
  return fits(attention) && (attention !== 'wide' || rows % 128 === 0) ? attention : 'narrow';
}

/** Definitions of the kernels on subgroup matrices. */
function matrixDefines(launcher: Launcher, width: number, subgroups = 4): Defines {
  const { memory, lanes } = launcher.variants.matrix!;
  const [threads, DK] = [subgroups * lanes, width / 16];
  const defines: Record<string, string | number> = {
    ...{ THREADS: threads, SUBGROUPS: subgroups, DK, MEMORY: memory, TILE_UNIT: matrixMemories[memory] },
    ...{ LOADS: Math.ceil((32 * 2 * DK) / threads), NEXT: Math.ceil((64 * 2 * DK) / threads) },
    ROW_TILES: subgroups / 2,
  };
  for (let part = 0; part < 4; part++)
    Object.assign(defines, { [`LOW_${part}`]: 2 * part, [`HIGH_${part}`]: 2 * part + 1 });
  return defines;
}

const vectorArg = (name: string, view: View): Arg => ({ name, view, vector: 4 });

/** Strides of batch and position, or of batch, head and position, padded. */
function strides(view: View | undefined, count: number): number[] {
  return Array.from({ length: count }, (_, i) => view?.strides[i] ?? 0);
}

function offsetsOf(bound: Bound, args: readonly Arg[]): (name: string) => number {
  return (name) => bound.offsets[args.findIndex((a) => a.name === name)] ?? 0;
}

/** Shapes of the walk over one head's width: padded width, vectors a row an invocation, columns at a time. */
function widths(d: number, most: number): { DP: number; DV: number; VC: number } {
  const DP = Math.ceil(d / 32) * 32;
  let VC = 8;
  while ((VC * DP) / 4 > most) VC /= 2;
  return { DP, DV: DP / 32, VC };
}

function forward(
  launcher: Launcher,
  { q, k, v, starts, ends }: Attention['inputs'],
  { y, lse }: Attention['outputs'],
  attrs: Attention['attrs'],
): void {
  const [b, tq, hq, d] = q.shape as [number, number, number, number];
  if (sizeOf(q.shape) === 0) return;
  const tk = k.shape[1]!;
  const kind = matrixKind(launcher, [q, k, v], [y, lse], tq, tk, d);
  const read = kind ? vectorArg : readArg;
  // Few queries: 16 a workgroup, so that less of it idles.
  const R = tq <= 16 ? 1 : 4;
  const row = 16 * 4 * R;
  const scores = row + 128; // chunks of 16: 4 · R vectors of q and 8 of k each
  const w = widths(d, 384);
  const args: Arg[] = [
    writeArg('y', y),
    { name: 'lse', view: lse, write: true },
    read('q', q),
    read('k', k),
    read('v', v),
  ];
  if (starts) args.push({ name: 'starts', view: starts });
  if (ends) args.push({ name: 'ends', view: ends });
  const bound = launcher.bind('attention', args);
  const at = offsetsOf(bound, args);
  launcher.params
    .start()
    .u32(
      ...q.strides,
      ...k.strides,
      ...v.strides,
      ...y.strides,
      ...strides(lse, 3),
      0,
      ...strides(starts, 2),
      ...strides(ends, 2),
    )
    .u32(at('q'), at('k'), at('v'), at('y'), at('lse'), at('starts'), at('ends'), tq, tk, d, hq / k.shape[2]!)
    .f32(attrs.scale);
  const seen = { STARTS: starts !== undefined, ENDS: ends !== undefined, CAUSAL: attrs.causal, y_STORE: store(y).mode };
  if (kind) {
    const subgroups = kind === 'wide' ? 8 : 4;
    const matrices = matrixDefines(launcher, d, subgroups);
    const file = `attention/${kind === 'deep' ? 'deep' : 'matrix'}.wgsl`;
    launcher.launch(bound, file, { ...seen, ...matrices }, tq / (16 * subgroups), hq, b);
    return;
  }
  const defines: Defines = {
    ...w,
    ...seen,
    R,
    STAGE: Math.max(scores, 128, (w.VC * w.DP) / 4),
    q_MODE: access(q).mode,
    k_MODE: access(k).mode,
    v_MODE: access(v).mode,
  };
  launcher.launch(bound, 'attention/attention.wgsl', defines, Math.ceil(tq / (16 * R)), hq, b);
}

function backward(
  launcher: Launcher,
  scratch: Scratches,
  { dy, q, k, v, y, lse, starts, ends }: AttentionBackward['inputs'],
  { dq, dk, dv }: AttentionBackward['outputs'],
  attrs: AttentionBackward['attrs'],
  workspace: View | undefined,
): void {
  const [b, tq, hq, d] = q.shape as [number, number, number, number];
  const [, tk, hkv] = k.shape as [number, number, number, number];
  const some = workspace ?? dk;
  const z: View = { ...specOf([(b * hq * tq + b * tq) * 2], 'f32'), buffer: some.buffer, byteOffset: some.byteOffset };
  if (sizeOf(q.shape) > 0) prepare(launcher, z, dy, y, lse, starts, ends, [b, tq, hq, tk, d], attrs.causal);
  const words = [b, hq, tq, tk, d, hq / hkv] as const;
  const shared = { z, words, scale: attrs.scale, width: d };
  if (sizeOf(q.shape) > 0)
    gradient(launcher, scratch, { ...shared, FOR: 'query', rows: tq, heads: hq, a: q, b: dy, c: k, e: v, u: dq });
  if (sizeOf(k.shape) > 0)
    gradient(launcher, scratch, { ...shared, FOR: 'key', rows: tk, heads: hkv, a: k, b: v, c: q, e: dy, u: dk, x: dv });
}

function prepare(
  launcher: Launcher,
  z: View,
  dy: View,
  y: View,
  lse: View,
  starts: View | undefined,
  ends: View | undefined,
  [b, tq, hq, tk, d]: readonly [number, number, number, number, number],
  causal: boolean,
): void {
  const args: Arg[] = [
    { name: 'z', view: z, write: true },
    { name: 'dy', view: dy },
    { name: 'y', view: y },
    { name: 'lse', view: lse },
  ];
  if (starts) args.push({ name: 'starts', view: starts });
  if (ends) args.push({ name: 'ends', view: ends });
  const bound = launcher.bind('attentionBackward', args);
  const at = offsetsOf(bound, args);
  launcher.params
    .start()
    .u32(...dy.strides, ...y.strides, ...strides(lse, 3), 0, ...strides(starts, 2), ...strides(ends, 2))
    .u32(at('dy'), at('y'), at('lse'), at('starts'), at('ends'), at('z'), hq, b, tq, tk, d);
  const defines = { STARTS: starts !== undefined, ENDS: ends !== undefined, CAUSAL: causal };
  launcher.launch(bound, 'attention-backward/prepare.wgsl', defines, Math.ceil(tq / 4), hq, b);
}

interface Gradient {
  readonly FOR: 'query' | 'key';
  readonly rows: number;
  readonly heads: number;
  readonly a: View;
  readonly b: View;
  readonly c: View;
  readonly e: View;
  readonly z: View;
  readonly u: View;
  readonly x?: View;
  readonly words: readonly [
    batches: number,
    heads: number,
    queries: number,
    keys: number,
    width: number,
    group: number,
  ];
  readonly scale: number;
  readonly width: number;
}

function gradient(launcher: Launcher, { sums, gradients }: Scratches, g: Gradient): void {
  const writes = g.x ? [g.u, g.x] : [g.u];
  const columns = g.FOR === 'query' ? g.words[3] : g.words[2];
  const kind = matrixKind(launcher, [g.a, g.b, g.c, g.e], [...writes, g.z], g.rows, columns, g.width);
  if (!kind) {
    enqueue(launcher, g, kind);
    return;
  }
  const { x, ...one } = g;
  const [batches, , , , , group] = g.words;
  const few = g.FOR === 'key' && group > 1 && (g.rows / 64) * g.heads * batches < manyGroups;
  const run = few ? splitByHead : enqueue;
  run(launcher, { ...one, OF: 'gradients' }, kind, sums);
  // In another buffer, so that it need not wait.
  if (x) run(launcher, { ...one, u: x, OF: 'weights' }, kind, gradients);
}

/** dk or dv by query heads, which are added up in order: for few key heads, where a workgroup each would leave a device idle. */
function splitByHead(
  launcher: Launcher,
  g: Gradient & { readonly OF: string },
  kind: AttentionVariant,
  scratch: Scratch,
): void {
  const { shape } = g.u;
  const [size, group] = [sizeOf(shape), g.words[5]];
  const sums: View = { ...specOf(shape, 'f32'), buffer: scratch.take(group * size * 4), byteOffset: 0 };
  enqueue(launcher, { ...g, u: sums, heads: g.heads * group, SPLIT: true }, kind);
  elementwise(launcher, {
    op: 'attentionBackward',
    file: 'matmul/combine.wgsl',
    shape,
    y: { view: g.u },
    a: { view: sums, reach: (group - 1) * size },
    defines: { ADDS: false },
    words: { u0: group, u1: size, f0: 1 },
  });
}

function enqueue(
  launcher: Launcher,
  g: Gradient & { readonly OF?: string; readonly SPLIT?: boolean },
  kind: AttentionVariant | undefined,
): void {
  const read = kind ? vectorArg : readArg;
  const R = g.FOR === 'query' ? 4 : 2;
  const chunk = 8 * 2 * 4 * R + 8 * 16; // chunks of 8: a and b by 4 · R vectors, c and e by 8
  const kinds = g.FOR === 'query' ? 1 : 2;
  const w = widths(g.width, 256 / kinds);
  const args: Arg[] = [writeArg('u', g.u), read('a', g.a)];
  if (g.OF !== 'weights') args.push(read('b', g.b));
  args.push(read('c', g.c), read('e', g.e), { name: 'z', view: g.z });
  if (g.x) args.push(writeArg('x', g.x));
  const bound = launcher.bind('attentionBackward', args);
  const at = offsetsOf(bound, args);
  launcher.params
    .start()
    .u32(...g.a.strides, ...g.b.strides, ...g.c.strides, ...g.e.strides, ...g.u.strides, ...strides(g.x, 4))
    .u32(at('a'), at('b'), at('c'), at('e'), at('u'), at('x'), at('z'), ...g.words)
    .f32(g.scale);
  const common = { FOR: g.FOR, u_STORE: store(g.u).mode, x_STORE: g.x ? store(g.x).mode : 'each' };
  if (kind) {
    const defines = { ...common, OF: g.OF!, SPLIT: g.SPLIT ?? false, ...matrixDefines(launcher, g.width) };
    launcher.launch(bound, 'attention-backward/matrix.wgsl', defines, g.rows / 64, g.heads, g.words[0]);
    return;
  }
  const defines: Defines = {
    ...common,
    ...w,
    R,
    STAGE: Math.max(chunk, (kinds * w.VC * w.DP) / 4),
    a_MODE: access(g.a).mode,
    b_MODE: access(g.b).mode,
    c_MODE: access(g.c).mode,
    e_MODE: access(g.e).mode,
  };
  const groups = Math.ceil(g.rows / (16 * R));
  launcher.launch(bound, 'attention-backward/attention-backward.wgsl', defines, groups, g.heads, g.words[0]);
}
