import { bytesOf, type DType, type FusedKernel, type LinearAttrs, type LinearViews, type LoraLinear, type LoraLinearBackward, type MapOperands, type Refusal, sizeOf, type TensorSpec, type View } from '@lowrank/kernels';
import { castView, copyView } from '../primitives/elementwise.ts';
import { columns, product, transposed } from '../primitives/product.ts';
import type { CudaDevice } from '../runtime/device.ts';
import { type GemmPlans, matrixOf } from '../runtime/gemm.ts';
import { codeOf, rangeOf, rowsOf } from '../runtime/views.ts';
import { acceptsQuant, dequantizeRows } from './quant.ts';

type LinearSpecs = MapOperands<LinearViews, TensorSpec>;

const up = (n: number, to: number) => Math.ceil(n / to) * to;
const outputsOf = (attrs: readonly LinearAttrs[]) => attrs.reduce((n, l) => n + l.outFeatures, 0);
const ranksOf = (layers: readonly { a?: { shape: readonly number[] } | undefined }[]) => layers.reduce((n, l) => n + (l.a?.shape[0] ?? 0), 0);

/**
 * How a group is computed. `join`: base and adapter are one product, over K + ΣR columns forward and ΣN + ΣR rows backward; it costs a
 * copy of the input beside the low-rank part, against reading and writing the result once more, so it pays where the input is the narrower.
 * A dense base is never copied: its products add onto the low-rank one.
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
}

function layoutOf(x: TensorSpec, layers: readonly LinearSpecs[], attrs: readonly LinearAttrs[]): Layout {
  const [M, K] = x.shape as [number, number];
  const N = outputsOf(attrs);
  const R = ranksOf(layers);
  const rest = up(R, 8);
  const quantized = attrs.every((l) => l.quant);
  const able = quantized && R > 0 && K % 8 === 0 && N % 8 === 0 && M >= 64;
  return { M, K, N, R, rest, quantized, joinForward: able && K <= N, joinBackward: able && N < K };
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
    return { buffer: this.#from?.buffer ?? { byteLength: 0 }, byteOffset, dtype, shape: [rows, cols], strides: [cols, 1] };
  }
}

/** Pieces of the workspace; asked for in the same order when counting and when running. */
function forwardPieces(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[]) {
  return {
    weight: l.quantized ? arena.take(dtype, l.N, l.K + (l.joinForward ? l.rest : 0)) : undefined,
    mixed: l.quantized ? undefined : quantizedAlone(arena, l, dtype, layers),
    wide: l.joinForward ? arena.take(dtype, l.M, l.K + l.rest) : undefined,
    a: l.R > 0 ? arena.take(dtype, l.R, l.K) : undefined,
    b: !l.joinForward && l.R > 0 ? arena.take(dtype, l.N, Math.max(...layers.map((x) => x.a?.shape[0] ?? 0))) : undefined,
  };
}

/** A group of dense and quantized layers: each quantized one passes through this. */
function quantizedAlone(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[]): View | undefined {
  return layers.some((x) => x.quant) ? arena.take(dtype, l.N, l.K) : undefined;
}

function backwardPieces(arena: Arena, l: Layout, dtype: DType, layers: readonly LinearSpecs[], needX: boolean) {
  return {
    weight: needX && l.quantized ? arena.take(dtype, l.N + (l.joinBackward ? l.rest : 0), l.K) : undefined,
    mixed: needX && !l.quantized ? quantizedAlone(arena, l, dtype, layers) : undefined,
    wide: needX && l.joinBackward ? arena.take(dtype, l.M, l.N + l.rest) : undefined,
    g: l.R > 0 ? arena.take(dtype, l.M, l.rest) : undefined,
    a: needX && !l.joinBackward && l.R > 0 ? arena.take(dtype, l.R, l.K) : undefined,
    b: l.R > 0 ? arena.take(dtype, l.N, Math.max(...layers.map((x) => x.a?.shape[0] ?? 0))) : undefined,
    da: layers.filter((x) => x.a).length > 1 ? arena.take('f32', l.R, l.K) : undefined,
  };
}

function accepts(x: TensorSpec, others: readonly TensorSpec[], layers: readonly LinearSpecs[]): true | Refusal {
  for (const spec of [x, ...others]) if (spec.shape.length === 2 && !matrixOf(spec as View)) return { refused: 'an operand has no contiguous axis' };
  for (const layer of layers) {
    if (layer.weight && layer.weight.dtype !== x.dtype) return { refused: `the weight is ${layer.weight.dtype}, x is ${x.dtype}` };
    const quant = layer.quant ? acceptsQuant(layer.quant as Parameters<typeof acceptsQuant>[0]) : true;
    if (quant !== true) return quant;
  }
  return true;
}

/** Rows first … first + count − 1 of a matrix. */
function rows(view: View, first: number, count: number): View {
  return { ...view, shape: [count, view.shape[1]!], byteOffset: view.byteOffset + first * view.strides[0]! * bytesOf[view.dtype] };
}

/** A low-rank factor in the dtype of x: itself, or a rounded copy in `scratch`. */
function inDtype(device: CudaDevice, factor: View, dtype: DType, scratch: View): View {
  if (factor.dtype === dtype) return factor;
  const copy = { ...scratch, shape: factor.shape, strides: [factor.shape[1]!, 1] };
  castView(device, factor, copy);
  return copy;
}

/** out = [left, right, zeros] by columns. */
function widen(device: CudaDevice, left: View, right: View, R: number, out: View): void {
  const [M, K] = left.shape as [number, number];
  const rest = out.shape[1]! - K;
  const pitch = (v: View) => (v.shape[0] === 1 ? v.shape[1]! : v.strides[0]!);
  const wide = K % 8 === 0 && rest % 8 === 0 && pitch(left) % 8 === 0 && left.byteOffset % 16 === 0 && out.byteOffset % 16 === 0;
  const list = device.launch('lora_widen', [device.blocks((M * (K + rest)) / (wide ? 8 : 1))], 256).pointer(rangeOf(left)).pointer(rangeOf(right)).pointer(rangeOf(out));
  device.done(list.i64(M).i64(K).i64(R).i64(rest).i64(pitch(left)).i64(pitch(right)).i64(out.strides[0]!).i32(codeOf[out.dtype]).i32(+wide));
}

/** The low-rank factors a of all layers, one under the other, in x's dtype. */
function stackA(device: CudaDevice, layers: readonly LinearViews[], into: View): View {
  const pairs = layers.filter((l) => l.a);
  if (pairs.length === 1 && pairs[0]!.a!.dtype === into.dtype) return pairs[0]!.a!;
  let first = 0;
  for (const { a } of pairs) {
    castView(device, a!, rows(into, first, a!.shape[0]!));
    first += a!.shape[0]!;
  }
  return into;
}

export const loraLinear = (device: CudaDevice, plans: GemmPlans): FusedKernel<LoraLinear> => ({
  accepts: ({ inputs: { x, layers }, outputs: { y, h } }) => (rowsOf(x) && rowsOf(y) ? accepts(x, [y, h], layers as readonly LinearSpecs[]) : { refused: 'x has no contiguous rows' }),
  workspace: ({ inputs: { x, layers }, attrs }) => {
    const arena = new Arena();
    forwardPieces(arena, layoutOf(x, layers as readonly LinearSpecs[], attrs.layers), x.dtype, layers as readonly LinearSpecs[]);
    return arena.bytes;
  },
  run: ({ inputs: { x, layers }, outputs: { y, h }, attrs, workspace }) => {
    const l = layoutOf(x, layers, attrs.layers);
    if (l.M === 0 || l.N === 0) return;
    const pieces = forwardPieces(new Arena(workspace), l, x.dtype, layers);
    const bytes = bytesOf[x.dtype];
    if (l.R > 0) product(device, plans, x, transposed(stackA(device, layers, pieces.a!)), h);
    const started = layers.map(() => false);
    let n0 = 0;
    let r0 = 0;
    layers.forEach((layer, i) => {
      const at = attrs.layers[i]!;
      const out = columns(y, n0, at.outFeatures, bytes);
      const r = layer.a?.shape[0] ?? 0;
      if (layer.bias) {
        castView(device, { ...layer.bias, shape: out.shape, strides: [0, layer.bias.strides[0]!] }, out);
        started[i] = true;
      }
      if (pieces.weight && at.quant) {
        const weight = rows(pieces.weight, n0, at.outFeatures);
        dequantizeRows(device, layer.quant!, at.quant, weight, l.K, weight.strides[0]!);
      }
      if (l.joinForward) {
        const beside = columns(rows(pieces.weight!, n0, at.outFeatures), l.K, l.rest, bytes);
        const b = layer.b ?? beside;
        const list = device.launch('lora_columns', [device.blocks(at.outFeatures * l.rest)], 256).pointer(rangeOf(b)).pointer(rangeOf(beside));
        list.i64(at.outFeatures).i64(r).i64(r0).i64(l.rest).i64(b.strides[0]!).i64(b.strides[1]!).i64(beside.strides[0]!).f32(at.scale ?? 0);
        device.done(list.i32(codeOf[b.dtype]).i32(codeOf[x.dtype]));
      } else if (layer.b) {
        const b = inDtype(device, layer.b, x.dtype, pieces.b!);
        product(device, plans, columns(h, r0, r, bytes), transposed(b), out, { alpha: at.scale ?? 1, c: started[i] ? out : undefined });
        started[i] = true;
      }
      n0 += at.outFeatures;
      r0 += r;
    });
    if (pieces.weight) {
      const input = l.joinForward ? pieces.wide! : x;
      if (l.joinForward) widen(device, x, h, l.R, input);
      // One product for the whole group, unless only some of its results hold a first part already.
      if (started.every((s) => s === started[0])) return product(device, plans, input, transposed(pieces.weight), y, { c: started[0] ? y : undefined });
      n0 = 0;
      return attrs.layers.forEach((at, i) => {
        const out = columns(y, n0, at.outFeatures, bytes);
        product(device, plans, input, transposed(rows(pieces.weight!, n0, at.outFeatures)), out, { c: started[i] ? out : undefined });
        n0 += at.outFeatures;
      });
    }
    n0 = 0;
    layers.forEach((layer, i) => {
      const at = attrs.layers[i]!;
      const out = columns(y, n0, at.outFeatures, bytes);
      const weight = layer.weight ?? rows(pieces.mixed!, n0, at.outFeatures);
      if (at.quant) dequantizeRows(device, layer.quant!, at.quant, weight, l.K, l.K);
      product(device, plans, x, transposed(weight), out, { c: started[i] ? out : undefined });
      n0 += at.outFeatures;
    });
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
    backwardPieces(arena, layoutOf(x, layers as readonly LinearSpecs[], attrs.layers), x.dtype, layers as readonly LinearSpecs[], attrs.needX);
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
    let n0 = 0;
    let r0 = 0;
    let pair = 0;
    layers.forEach((layer, i) => {
      const at = attrs.layers[i]!;
      if (layer.b) {
        const r = layer.b.shape[1]!;
        const part = columns(dy, n0, at.outFeatures, bytes);
        const b = inDtype(device, layer.b, x.dtype, pieces.b!);
        product(device, plans, part, b, columns(pieces.g!, r0, r, bytes), { alpha: at.scale ?? 1 });
        product(device, plans, transposed(part), columns(h, r0, r, bytes), db[pair]!, { alpha: at.scale ?? 1 });
        r0 += r;
        pair++;
      }
      n0 += at.outFeatures;
    });
    if (l.R > 0) gradientsOfA(device, plans, { ...pieces.g!, shape: [l.M, l.R] }, x, da, pieces.da);
    if (!dx) return;
    n0 = 0;
    let began = false;
    const addProduct = (a: View, b: View) => {
      product(device, plans, a, b, dx, { c: began ? dx : undefined });
      began = true;
    };
    if (l.R > 0 && !l.joinBackward) addProduct({ ...pieces.g!, shape: [l.M, l.R] }, stackA(device, layers, pieces.a!));
    if (pieces.weight) {
      attrs.layers.forEach((at, i) => {
        dequantizeRows(device, layers[i]!.quant!, at.quant!, rows(pieces.weight!, n0, at.outFeatures), l.K, l.K);
        n0 += at.outFeatures;
      });
      if (!l.joinBackward) return addProduct(dy, pieces.weight);
      // Under the weight: a of each layer, and zeros up to a multiple of eight rows.
      const below = rows(pieces.weight, l.N, l.rest);
      let at = 0;
      for (const layer of layers)
        if (layer.a) {
          castView(device, layer.a, rows(below, at, layer.a.shape[0]!));
          at += layer.a.shape[0]!;
        }
      if (at < l.rest) device.fill(rows(below, at, l.rest - at), 0);
      widen(device, dy, pieces.g!, l.R, pieces.wide!);
      return addProduct(pieces.wide!, pieces.weight);
    }
    layers.forEach((layer, i) => {
      const at = attrs.layers[i]!;
      const weight = layer.weight ?? rows(pieces.mixed!, n0, at.outFeatures);
      if (at.quant) dequantizeRows(device, layer.quant!, at.quant, weight, l.K, l.K);
      addProduct(columns(dy, n0, at.outFeatures, bytes), weight);
      n0 += at.outFeatures;
    });
  },
});

/** daᵢ = gᵢᵀ·x: for several layers one product, so that x is read once, cut up afterwards. */
function gradientsOfA(device: CudaDevice, plans: GemmPlans, g: View, x: View, da: readonly View[], joint: View | undefined): void {
  if (!joint) return product(device, plans, transposed(g), x, da[0]!);
  product(device, plans, transposed(g), x, joint);
  let first = 0;
  for (const target of da) {
    copyView(device, rows(joint, first, target.shape[0]!), target);
    first += target.shape[0]!;
  }
}
