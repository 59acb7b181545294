import {
  bytesOf,
  type Call,
  type FusedKernel,
  type LinearAttrs,
  type LinearViews,
  type LoraLinear,
  type LoraLinearBackward,
  type MapOperands,
  sizeOf,
  type TensorSpec,
  type View,
} from '@lowrank/kernels';
import { convert } from '../primitives/elementwise.ts';
import { type GemmOptions, gemm, type MatrixB } from '../primitives/gemm.ts';
import { matrixOf, rowPointer } from '../primitives/matmul.ts';
import { viewAt } from '../primitives/temporary.ts';
import type { Engine } from '../runtime/engine.ts';
import { align, codesMatrix, direct, plainWeight, scaleBytes, scales } from './quant.ts';

type Layers<T> = readonly MapOperands<LinearViews, T>[];

/** Columns `from` … `from + count` of a view of two axes. */
function columns(view: View, from: number, count: number): View {
  return {
    ...view,
    byteOffset: view.byteOffset + from * view.strides[1]! * bytesOf[view.dtype],
    shape: [view.shape[0]!, count],
  };
}

/** Bytes of the restored scales of the double-quantized layer that has most. */
function mostScales(layers: Layers<TensorSpec>): number {
  return Math.max(0, ...layers.map((l) => (l.quant ? scaleBytes(l.quant.absmax) : 0)));
}

/** The base of a layer as the second operand of x·Wᵀ, or of dy·W with `transposed`. */
function base(engine: Engine, layer: LinearViews, attrs: LinearAttrs, transposed: boolean, scratch: number): MatrixB {
  if (layer.quant && attrs.quant) {
    return codesMatrix(
      engine,
      layer.quant,
      attrs.quant,
      transposed,
      scales(engine, layer.quant, () => scratch),
    );
  }
  const w = matrixOf(engine, layer.weight!);
  return transposed ? w : transpose(w);
}

function transpose(m: MatrixB): MatrixB {
  return { ...m, row: m.column, column: m.row };
}

/** C (+)= alpha · A·B over views; y is f32 with unit column stride. */
function multiply(engine: Engine, a: View, b: MatrixB, y: View, options: GemmOptions): void {
  const [M, N] = y.shape as [number, number];
  gemm(engine, matrixOf(engine, a), b, { pointer: engine.pointer(y), row: y.strides[0]! }, M, N, a.shape[1]!, options);
}

/** The f32 view that sums go to: the destination itself, or one at `scratch` that is stored there by `settle`. */
function sumsFor(y: View, scratch: number): View {
  return direct(y) ? y : viewAt(scratch, y.shape, 'f32');
}

function settle(engine: Engine, sums: View, y: View): void {
  if (sums !== y) convert(engine, sums, y);
}

function accepts(layers: Layers<TensorSpec>): true | { refused: string } {
  for (const layer of layers) {
    const verdict = layer.quant ? plainWeight(layer.quant) : true;
    if (verdict !== true) return verdict;
  }
  return true;
}

/** f32 elements that a destination needs beside itself. */
function sumBytes(y: TensorSpec, columnCount = y.shape[1]!): number {
  return direct(y) ? 0 : align(y.shape[0]! * columnCount * 4);
}

function widest(layers: Layers<TensorSpec>, attrs: { readonly layers: readonly LinearAttrs[] }) {
  return {
    out: Math.max(0, ...attrs.layers.map((l) => l.outFeatures)),
    rank: Math.max(0, ...layers.map((l) => l.a?.shape[0] ?? 0)),
  };
}

export const loraLinear = (engine: Engine): FusedKernel<LoraLinear> => ({
  accepts: ({ inputs: { layers } }) => accepts(layers as Layers<TensorSpec>),
  workspace: ({ inputs: { layers }, outputs: { y, h }, attrs }) => {
    const { out, rank } = widest(layers as Layers<TensorSpec>, attrs);
    return mostScales(layers as Layers<TensorSpec>) + sumBytes(y, out) + sumBytes(h, rank);
  },
  run: ({ inputs: { x, layers }, outputs: { y, h }, attrs, workspace }: Call<LoraLinear>) => {
    if (sizeOf(y.shape) === 0 && sizeOf(h.shape) === 0) return;
    const scratch = workspace ? engine.pointer(workspace) : 0;
    const sumsAt = scratch + mostScales(layers as Layers<TensorSpec>);
    const lowAt = sumsAt + sumBytes(y, widest(layers as Layers<TensorSpec>, attrs).out);
    let column = 0;
    let rank = 0;
    layers.forEach((layer, i) => {
      const { outFeatures, scale = 1 } = attrs.layers[i]!;
      const out = columns(y, column, outFeatures);
      const sums = sumsFor(out, sumsAt);
      const bias = layer.bias ? rowPointer(engine, layer.bias) : 0;
      multiply(engine, x, base(engine, layer, attrs.layers[i]!, false, scratch), sums, { bias });
      if (layer.a && layer.b) {
        const r = layer.a.shape[0]!;
        const kept = columns(h, rank, r);
        const low = sumsFor(kept, lowAt);
        multiply(engine, x, transpose(matrixOf(engine, layer.a)), low, {});
        settle(engine, low, kept);
        multiply(engine, low, transpose(matrixOf(engine, layer.b)), sums, { alpha: scale, beta: 1 });
        rank += r;
      }
      settle(engine, sums, out);
      column += outFeatures;
    });
  },
});

/** A layer of a group: where its columns in y and in h begin, and how many pairs come before it. */
interface Part {
  readonly layer: LinearViews;
  readonly at: LinearAttrs;
  readonly column: number;
  readonly rank: number;
  readonly pair: number;
}

function partsOf(layers: readonly LinearViews[], attrs: readonly LinearAttrs[]): Part[] {
  let [column, rank, pair] = [0, 0, 0];
  return layers.map((layer, i) => {
    const at = attrs[i]!;
    const part = { layer, at, column, rank, pair };
    column += at.outFeatures;
    rank += layer.a?.shape[0] ?? 0;
    if (layer.a) pair++;
    return part;
  });
}

/** Bytes of dy·B of these layers, one after the other. */
function lowBytes(M: number, layers: Layers<TensorSpec>): number {
  return layers.reduce((sum, { a }) => sum + align(M * (a?.shape[0] ?? 0) * 4), 0);
}

/** [M, N] as [N, M]. */
function flipped(v: View): View {
  return { ...v, shape: [v.shape[1]!, v.shape[0]!], strides: [v.strides[1]!, v.strides[0]!] };
}

export const loraLinearBackward = (engine: Engine): FusedKernel<LoraLinearBackward> => ({
  accepts: ({ inputs: { layers }, outputs: { da, db } }) =>
    [...da, ...db].every(direct)
      ? accepts(layers as Layers<TensorSpec>)
      : { refused: 'da and db must have unit column stride' },
  workspace: ({ inputs: { dy, layers }, outputs: { dx } }) => {
    const low = lowBytes(dy.shape[0]!, layers as Layers<TensorSpec>);
    return mostScales(layers as Layers<TensorSpec>) + low + (dx ? sumBytes(dx) : 0);
  },
  run: ({ inputs: { dy, x, h, layers }, outputs: { dx, da, db }, attrs, workspace }: Call<LoraLinearBackward>) => {
    const scratch = workspace ? engine.pointer(workspace) : 0;
    const lowAt = scratch + mostScales(layers as Layers<TensorSpec>);
    const M = dy.shape[0]!;
    // Before dx, which may lie over x.
    const parts = partsOf(layers, attrs.layers);
    const lows = parts.map(({ layer, at, column, rank, pair }): View | undefined => {
      if (!layer.a || !layer.b) return undefined;
      const r = layer.a.shape[0]!;
      const { scale = 1 } = at;
      const g = columns(dy, column, at.outFeatures);
      // dy·B, unscaled: the scale goes into what is made of it.
      const low = viewAt(lowAt + lowBytes(M, layers.slice(0, layers.indexOf(layer))), [M, r], 'f32');
      multiply(engine, g, matrixOf(engine, layer.b), low, {});
      multiply(engine, flipped(low), matrixOf(engine, x), da[pair]!, { alpha: scale });
      multiply(engine, flipped(g), matrixOf(engine, columns(h, rank, r)), db[pair]!, { alpha: scale });
      return low;
    });
    if (!attrs.needX || !dx) return;
    const sums = sumsFor(dx, lowAt + lowBytes(M, layers));
    for (const [i, { layer, at, column }] of parts.entries()) {
      const g = columns(dy, column, at.outFeatures);
      multiply(engine, g, base(engine, layer, at, true, scratch), sums, { beta: i === 0 ? 0 : 1 });
      if (lows[i]) multiply(engine, lows[i], matrixOf(engine, layer.a!), sums, { alpha: at.scale ?? 1, beta: 1 });
    }
    settle(engine, sums, dx);
  },
});
