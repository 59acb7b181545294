import {
  bytesOf,
  type DType,
  type FusedKernel,
  type LinearAttrs,
  type LinearViews,
  type LoraLinear,
  type LoraLinearBackward,
  type MapOperands,
  type Refusal,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { castView } from '../primitives/elementwise.ts';
import { columns, product, transposed } from '../primitives/product.ts';
import type { CommandList } from '../runtime/commands.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { type GemmPlans, matrixOf } from '../runtime/gemm.ts';
import { codeOf, rangeOf, rowsOf } from '../runtime/views.ts';
import { acceptsQuant, dequantizeRows } from './quant.ts';

type LinearSpecs = MapOperands<LinearViews, TensorSpec>;

const up = (n: number, to: number) => Math.ceil(n / to) * to;
const outputsOf = (attrs: readonly LinearAttrs[]) => attrs.reduce((n, l) => n + l.outFeatures, 0);
const ranksOf = (layers: readonly { a?: { shape: readonly number[] } | undefined }[]) =>
  layers.reduce((n, l) => n + (l.a?.shape[0] ?? 0), 0);

/** Layers that the packing kernels take at once (`maxPairs` of kernels/lora-linear/lora-linear.cu). */
const maxPairs = 8;
/** Weights of a group that together take more than this are written out one at a time. */
const scratchBytes = 128 << 20;

/**
 * How a group is computed. `join`: base and adapter are one product, over K + ΣR columns forward and ΣN + ΣR rows backward; it costs a
 * copy of the input beside the low-rank part, against reading and writing the result once more, so it pays where the input is the narrower.
 * A dense base is never copied: its products add onto the low-rank one. `split`: large quantized weights pass through one scratch in turn.
 */
interface Layout {
  readonly M: number;
  readonly K: number;
  readonly N: number;
  readonly R: number;
  /** ΣR rounded up to 8, so that rows stay aligned; 0 without adapters. */
  readonly rest: number;
  readonly quantized: boolean;
  readonly joinForward: boolean;
  readonly joinBackward: boolean;
  readonly split: boolean;
  /** Rows of weights that lie in scratch at a time. */
  readonly weightRows: number;
}

function layoutOf(x: TensorSpec, layers: readonly LinearSpecs[], attrs: readonly LinearAttrs[]): Layout {
  const [M, K] = x.shape as [number, number];
  const N = outputsOf(attrs);
  const R = ranksOf(layers);
  const rest = up(R, 8);
  const quantized = attrs.every((l) => l.quant);
  const able = quantized && R > 0 && K % 8 === 0 && N % 8 === 0 && M >= 64;
  const joinBackward = able && N < K;
  const split = quantized && !joinBackward && layers.length > 1 && M >= 1024 && N * K * bytesOf[x.dtype] > scratchBytes;
  const weightRows = split ? Math.max(...attrs.map((l) => l.outFeatures)) : N;
  return { M, K, N, R, rest, quantized, joinForward: able && K <= N, joinBackward, split, weightRows };
}

/** Cuts the workspace into pieces, each at a multiple of 256 bytes. With no workspace it only counts. */
class Arena {
  bytes = 0;
  readonly #from: View | undefined;

  constructor(from?: View) {
    this.#from = from;
  }

  take(dtype: DType, rows: number, cols: number): View {
    const byteOffset = (this.#from?.byteOffset ?? 0) + this.bytes;
    this.bytes += up(rows * cols * bytesOf[dtype], 256);
    return {
      buffer: this.#from?.buffer ?? { byteLength: 0 },
      byteOffset,
      dtype,
      shape: [rows, cols],
      strides: [cols, 1],
    };
  }
}

/** Pieces of the workspace; asked for in the same order when counting and when running. */
function forwardPieces(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[]) {
  return {
    weight: l.quantized ? arena.take(dtype, l.weightRows, l.K + (l.joinForward ? l.rest : 0)) : undefined,
    mixed: l.quantized ? undefined : quantizedAlone(arena, l, dtype, layers),
    wide: l.joinForward ? arena.take(dtype, l.M, l.K + l.rest) : undefined,
    a: l.R > 0 ? arena.take(dtype, l.R, l.K) : undefined,
    b: !l.joinForward && l.R > 0 ? arena.take(dtype, l.N, l.rest) : undefined,
  };
}

/** A group of dense and quantized layers: each quantized one passes through this. */
function quantizedAlone(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[]): View | undefined {
  return layers.some((x) => x.quant) ? arena.take(dtype, l.N, l.K) : undefined;
}

function backwardPieces(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[], needX: boolean) {
  const pairs = layers.filter((x) => x.a).length;
  return {
    weight: needX && l.quantized ? arena.take(dtype, l.weightRows + (l.joinBackward ? l.rest : 0), l.K) : undefined,
    mixed: needX && !l.quantized ? quantizedAlone(arena, l, dtype, layers) : undefined,
    wide: needX && l.joinBackward ? arena.take(dtype, l.M, l.N + l.rest) : undefined,
    g: l.R > 0 ? arena.take(dtype, l.M, l.rest) : undefined,
    a: needX && !l.joinBackward && l.R > 0 ? arena.take(dtype, l.R, l.K) : undefined,
    b: l.R > 0 ? arena.take(dtype, l.N, l.rest) : undefined,
    da: pairs > 1 ? arena.take('f32', l.R, l.K) : undefined,
    db: pairs > 1 ? arena.take('f32', l.N, l.R) : undefined,
  };
}

function accepts(x: TensorSpec, others: readonly TensorSpec[], layers: readonly LinearSpecs[]): true | Refusal {
  for (const spec of [x, ...others])
    if (spec.shape.length === 2 && !matrixOf(spec as View)) return { refused: 'an operand has no contiguous axis' };
  if (layers.length > maxPairs) return { refused: `a group of ${layers.length} layers, at most ${maxPairs} are taken` };
  for (const layer of layers) {
    if (layer.weight && layer.weight.dtype !== x.dtype)
      return { refused: `the weight is ${layer.weight.dtype}, x is ${x.dtype}` };
    const quant = layer.quant ? acceptsQuant(layer.quant as Parameters<typeof acceptsQuant>[0]) : true;
    if (quant !== true) return quant;
  }
  return true;
}

/** Rows first … first + count − 1 of a matrix. */
function rows(view: View, first: number, count: number): View {
  return {
    ...view,
    shape: [count, view.shape[1]!],
    byteOffset: view.byteOffset + first * view.strides[0]! * bytesOf[view.dtype],
  };
}

/** A layer of a group with the places of its outputs and its rank columns. */
interface Part {
  readonly layer: LinearViews;
  readonly at: LinearAttrs;
  readonly n0: number;
  readonly n: number;
  readonly r0: number;
  readonly r: number;
}

function partsOf(layers: readonly LinearViews[], attrs: readonly LinearAttrs[]): Part[] {
  let n0 = 0;
  let r0 = 0;
  return layers.map((layer, i) => {
    const at = attrs[i]!;
    const part = { layer, at, n0, n: at.outFeatures, r0, r: layer.a?.shape[0] ?? 0 };
    n0 += part.n;
    r0 += part.r;
    return part;
  });
}

/** The dense weights of a group as one matrix, where they lie one under the other. */
function stacked(parts: readonly Part[]): View | undefined {
  const first = parts[0]!.layer.weight;
  if (first?.strides[1] !== 1) return undefined;
  const pitch = first.strides[0]!;
  for (const { layer, n0 } of parts) {
    const { weight: w } = layer;
    const at = first.byteOffset + n0 * pitch * bytesOf[first.dtype];
    if (!w || w.buffer !== first.buffer || w.byteOffset !== at || w.strides[0] !== pitch || w.strides[1] !== 1)
      return undefined;
  }
  return { ...first, shape: [parts.reduce((n, p) => n + p.n, 0), first.shape[1]!] };
}

/** One `struct Pair` or `struct Cut` a layer with a pair, eight in all, and their count. */
function table(
  list: CommandList,
  parts: readonly Part[],
  pair: (part: Part, i: number) => { a: View; b: View },
  rowsBefore: number,
): CommandList {
  const having = parts.filter((p) => p.layer.a);
  for (let i = 0; i < maxPairs; i++) {
    const part = having[i];
    const views = part && pair(part, i);
    list
      .align(8)
      .optionalPointer(views && sizeOf(views.a.shape) > 0 ? rangeOf(views.a) : undefined)
      .optionalPointer(views && sizeOf(views.b.shape) > 0 ? rangeOf(views.b) : undefined);
    for (const v of [views?.a, views?.b]) list.i64(v?.strides[0] ?? 0).i64(v?.strides[1] ?? 0);
    list
      .i32(part?.r ?? 0)
      .i32(part?.r0 ?? 0)
      .i32(part?.n ?? 0)
      .i32((part?.n0 ?? 0) - rowsBefore)
      .f32(part?.at.scale ?? 1)
      .i32(views ? codeOf[views.a.dtype] : 0);
  }
  return list.i32(having.length).i32(0);
}

/** Puts the factors into x's dtype: a [rows, K] one under the other, b [N, rest] = s·b by blocks (rows from `rowsBefore` on). */
function pack(
  device: CudaDevice,
  parts: readonly Part[],
  a: View | undefined,
  b: View | undefined,
  rest: number,
  rowsBefore = 0,
): void {
  const target = a ?? b!;
  const [aRows, K] = a ? (a.shape as [number, number]) : [0, 0];
  const N = b?.shape[0] ?? 0;
  const items = aRows * Math.ceil(K / 8) + (N * rest) / 8;
  if (items === 0) return;
  const list = table(
    device.launch('lora_pack', [device.blocks(items)], 256),
    parts,
    ({ layer }) => ({ a: layer.a!, b: layer.b! }),
    rowsBefore,
  );
  list
    .optionalPointer(a && aRows * K > 0 ? rangeOf(a) : undefined)
    .optionalPointer(b && N > 0 ? rangeOf(b) : undefined);
  device.done(
    list
      .i64(aRows)
      .i64(K)
      .i64(N)
      .i64(rest)
      .i64(b?.strides[0] ?? rest)
      .i32(codeOf[target.dtype]),
  );
}

/** out = [left, right, zeros] by columns. */
function widen(device: CudaDevice, left: View, right: View, R: number, out: View): void {
  const [M, K] = left.shape as [number, number];
  const rest = out.shape[1]! - K;
  const pitch = (v: View) => (v.shape[0] === 1 ? v.shape[1]! : v.strides[0]!);
  const wide =
    K % 8 === 0 && rest % 8 === 0 && pitch(left) % 8 === 0 && left.byteOffset % 16 === 0 && out.byteOffset % 16 === 0;
  const list = device
    .launch('lora_widen', [device.blocks((M * (K + rest)) / (wide ? 8 : 1))], 256)
    .pointer(rangeOf(left))
    .pointer(rangeOf(right))
    .pointer(rangeOf(out));
  device.done(
    list
      .i64(M)
      .i64(K)
      .i64(R)
      .i64(rest)
      .i64(pitch(left))
      .i64(pitch(right))
      .i64(out.strides[0]!)
      .i32(codeOf[out.dtype])
      .i32(+wide),
  );
}

export const loraLinear = (device: CudaDevice, plans: GemmPlans): FusedKernel<LoraLinear> => ({
  accepts: ({ inputs: { x, layers }, outputs: { y, h } }) =>
    rowsOf(x) && rowsOf(y)
      ? accepts(x, [y, h], layers as readonly LinearSpecs[])
      : { refused: 'x has no contiguous rows' },
  workspace: ({ inputs: { x, layers }, attrs }) => {
    const arena = new Arena();
    forwardPieces(
      arena,
      layoutOf(x, layers as readonly LinearSpecs[], attrs.layers),
      x.dtype,
      layers as readonly LinearSpecs[],
    );
    return arena.bytes;
  },
  run: ({ inputs: { x, layers }, outputs: { y, h }, attrs, workspace }) => {
    const l = layoutOf(x, layers, attrs.layers);
    if (l.M === 0 || l.N === 0) return;
    const pieces = forwardPieces(new Arena(workspace), l, x.dtype, layers);
    const bytes = bytesOf[x.dtype];
    const parts = partsOf(layers, attrs.layers);
    const outOf = (p: Part) => columns(y, p.n0, p.n, bytes);
    /** s·b beside the weights that lie in scratch. */
    const beside = pieces.weight && l.joinForward ? columns(pieces.weight, l.K, l.rest, bytes) : undefined;
    if (l.R > 0) {
      pack(device, parts, pieces.a!, l.joinForward ? (l.split ? undefined : beside) : pieces.b!, l.rest);
      product(device, plans, x, transposed(pieces.a!), h);
    }
    const biased = parts.filter((p) => p.layer.bias);
    for (const p of biased) {
      const out = outOf(p);
      castView(device, { ...p.layer.bias!, shape: out.shape, strides: [0, p.layer.bias!.strides[0]!] }, out);
    }
    let started = parts.map((p) => p.layer.bias !== undefined);
    if (l.R > 0 && !l.joinForward) {
      const low = { ...pieces.b!, shape: [l.N, l.R] };
      if (biased.length === 0 || biased.length === parts.length)
        product(device, plans, h, transposed(low), y, { c: started[0] ? y : undefined });
      else
        for (const [i, p] of parts.entries())
          product(device, plans, h, transposed(rows(low, p.n0, p.n)), outOf(p), {
            c: started[i] ? outOf(p) : undefined,
          });
      started = parts.map(() => true);
    }
    const { weight } = pieces;
    if (!weight) {
      const joint = started.every((s) => s === started[0]) ? stacked(parts) : undefined;
      if (joint) return product(device, plans, x, transposed(joint), y, { c: started[0] ? y : undefined });
      for (const [i, p] of parts.entries()) {
        const values = p.layer.weight ?? rows(pieces.mixed!, p.n0, p.n);
        if (p.at.quant) dequantizeRows(device, p.layer.quant!, p.at.quant, values, l.K, l.K);
        product(device, plans, x, transposed(values), outOf(p), { c: started[i] ? outOf(p) : undefined });
      }
      return;
    }
    const input = l.joinForward ? pieces.wide! : x;
    if (l.joinForward) widen(device, x, h, l.R, input);
    const together = !l.split && started.every((s) => s === started[0]);
    for (const [i, p] of parts.entries()) {
      const first = l.split ? 0 : p.n0;
      const values = rows(weight, first, p.n);
      dequantizeRows(device, p.layer.quant!, p.at.quant!, values, l.K, weight.strides[0]!);
      if (together) continue;
      if (l.split && beside) pack(device, [p], undefined, rows(beside, 0, p.n), l.rest, p.n0);
      product(device, plans, input, transposed(values), outOf(p), { c: started[i] ? outOf(p) : undefined });
    }
    // One product for the whole group, unless only some of its results hold a first part already.
    if (together) product(device, plans, input, transposed(weight), y, { c: started[0] ? y : undefined });
  },
});

export const loraLinearBackward = (device: CudaDevice, plans: GemmPlans): FusedKernel<LoraLinearBackward> => ({
  accepts: ({ inputs: { dy, x, h, layers }, outputs: { dx } }) => {
    if (dy.dtype !== x.dtype) return { refused: `dy is ${dy.dtype}, x is ${x.dtype}` };
    if (!rowsOf(dy) || !rowsOf(x)) return { refused: 'dy or x have no contiguous rows' };
    return accepts(x, [dy, h, ...(dx ? [dx] : [])], layers as readonly LinearSpecs[]);
  },
  workspace: ({ inputs: { x, layers }, attrs }) => {
    const arena = new Arena();
    backwardPieces(
      arena,
      layoutOf(x, layers as readonly LinearSpecs[], attrs.layers),
      x.dtype,
      layers as readonly LinearSpecs[],
      attrs.needX,
    );
    return arena.bytes;
  },
  run: ({ inputs: { dy, x, h, layers }, outputs: { dx, da, db }, attrs, workspace }) => {
    const l = layoutOf(x, layers, attrs.layers);
    if (l.M === 0) {
      for (const v of [...da, ...db]) if (sizeOf(v.shape) > 0) device.fill(v, 0);
      return;
    }
    const pieces = backwardPieces(new Arena(workspace), l, x.dtype, layers, attrs.needX);
    const bytes = bytesOf[x.dtype];
    const parts = partsOf(layers, attrs.layers);
    const weight = dx && pieces.weight;
    const g = l.R > 0 ? { ...pieces.g!, shape: [l.M, l.R] } : undefined;
    if (g) {
      // Under the weight, where that is one product: a of each layer, and zeros up to a multiple of eight rows.
      const a = dx ? (l.joinBackward ? rows(weight!, l.N, l.rest) : pieces.a!) : undefined;
      pack(device, parts, a, pieces.b!, l.rest);
      product(device, plans, dy, { ...pieces.b!, shape: [l.N, l.R] }, g);
      gradients(device, plans, { g, x, dy, h }, parts, da, db, pieces);
    }
    if (!dx) return;
    let began = false;
    const addProduct = (a: View, b: View) => {
      product(device, plans, a, b, dx, { c: began ? dx : undefined });
      began = true;
    };
    if (g && !l.joinBackward) addProduct(g, pieces.a!);
    const joint = stacked(parts);
    if (joint) return addProduct(dy, joint);
    for (const p of parts) {
      const values =
        p.layer.weight ?? (weight ? rows(weight, l.split ? 0 : p.n0, p.n) : rows(pieces.mixed!, p.n0, p.n));
      if (p.at.quant) dequantizeRows(device, p.layer.quant!, p.at.quant, values, l.K, l.K);
      if (!weight || l.split) addProduct(columns(dy, p.n0, p.n, bytes), values);
    }
    if (!weight || l.split) return;
    if (!l.joinBackward) return addProduct(dy, weight);
    widen(device, dy, g!, l.R, pieces.wide!);
    addProduct(pieces.wide!, weight);
  },
});

/** daᵢ = gᵢᵀ·x and dbᵢ = sᵢ·dyᵢᵀ·hᵢ: for several layers two joint products, so that x and dy are read once, cut up afterwards. */
function gradients(
  device: CudaDevice,
  plans: GemmPlans,
  { g, x, dy, h }: Readonly<Record<'g' | 'x' | 'dy' | 'h', View>>,
  parts: readonly Part[],
  da: readonly View[],
  db: readonly View[],
  joint: { da?: View | undefined; db?: View | undefined },
): void {
  if (!joint.da || !joint.db) {
    const p = parts.find(({ layer }) => layer.a)!;
    product(device, plans, transposed(g), x, da[0]!);
    return product(device, plans, transposed(columns(dy, p.n0, p.n, bytesOf[dy.dtype])), h, db[0]!, {
      alpha: p.at.scale ?? 1,
    });
  }
  product(device, plans, transposed(g), x, joint.da);
  product(device, plans, transposed(dy), h, joint.db);
  const [R, K] = joint.da.shape as [number, number];
  const N = joint.db.shape[0]!;
  const list = table(
    device.launch('lora_unpack', [device.blocks(R * K + N * R)], 256),
    parts,
    (_, i) => ({ a: da[i]!, b: db[i]! }),
    0,
  );
  device.done(list.pointer(rangeOf(joint.da)).pointer(rangeOf(joint.db)).i64(R).i64(K).i64(N));
}
