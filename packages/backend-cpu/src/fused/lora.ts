import {
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
import { type GemmOptions, gemm, type MatrixB } from '../primitives/gemm.ts';
import { matrixOf, rowPointer } from '../primitives/matmul.ts';
import { viewAt } from '../primitives/temporary.ts';
import type { Engine } from '../runtime/engine.ts';
import { align, codesMatrix, direct, plainWeight, scaleBytes, scales } from './quant.ts';

type Layers<T> = readonly MapOperands<LinearViews, T>[];

/** Columns `from` … `from + count` of a view of two axes. */
function columns(view: View, from: number, count: number): View {
  return { ...view, byteOffset: view.byteOffset + from * view.strides[1]! * 4, shape: [view.shape[0]!, count] };
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

function accepts(
  x: TensorSpec,
  outputs: readonly TensorSpec[],
  layers: Layers<TensorSpec>,
): true | { refused: string } {
  if (x.dtype !== 'f32') return { refused: 'activations must be f32' };
  if (!outputs.every(direct)) return { refused: 'results must be f32 with unit stride' };
  for (const layer of layers) {
    const verdict = layer.quant ? plainWeight(layer.quant) : true;
    if (verdict !== true) return verdict;
  }
  return true;
}

export const loraLinear = (engine: Engine): FusedKernel<LoraLinear> => ({
  accepts: ({ inputs: { x, layers }, outputs: { y, h } }) => accepts(x, [y, h], layers as Layers<TensorSpec>),
  workspace: ({ inputs: { layers } }) => mostScales(layers as Layers<TensorSpec>),
  run: ({ inputs: { x, layers }, outputs: { y, h }, attrs, workspace }: Call<LoraLinear>) => {
    if (sizeOf(y.shape) === 0) return;
    const scratch = workspace ? engine.pointer(workspace) : 0;
    let column = 0;
    let rank = 0;
    layers.forEach((layer, i) => {
      const { outFeatures, scale = 1 } = attrs.layers[i]!;
      const out = columns(y, column, outFeatures);
      const bias = layer.bias ? rowPointer(engine, layer.bias) : 0;
      multiply(engine, x, base(engine, layer, attrs.layers[i]!, false, scratch), out, { bias });
      if (layer.a && layer.b) {
        const r = layer.a.shape[0]!;
        const low = columns(h, rank, r);
        multiply(engine, x, transpose(matrixOf(engine, layer.a)), low, {});
        multiply(engine, low, transpose(matrixOf(engine, layer.b)), out, { alpha: scale, beta: 1 });
        rank += r;
      }
      column += outFeatures;
    });
  },
});

export const loraLinearBackward = (engine: Engine): FusedKernel<LoraLinearBackward> => ({
  accepts: ({ inputs: { dy, layers }, outputs: { dx, da, db } }) =>
    accepts(dy, [...(dx ? [dx] : []), ...da, ...db], layers as Layers<TensorSpec>),
  workspace: ({ inputs: { dy, layers } }) => {
    const rank = Math.max(0, ...(layers as Layers<TensorSpec>).map((l) => l.a?.shape[0] ?? 0));
    return mostScales(layers as Layers<TensorSpec>) + align(dy.shape[0]! * rank * 4);
  },
  run: ({ inputs: { dy, x, h, layers }, outputs: { dx, da, db }, attrs, workspace }: Call<LoraLinearBackward>) => {
    const scratch = workspace ? engine.pointer(workspace) : 0;
    const lowAt = scratch + mostScales(layers as Layers<TensorSpec>);
    const M = dy.shape[0]!;
    let column = 0;
    let rank = 0;
    let pair = 0;
    let first = true;
    layers.forEach((layer, i) => {
      const { outFeatures, scale = 1 } = attrs.layers[i]!;
      const g = columns(dy, column, outFeatures);
      if (attrs.needX && dx) {
        multiply(engine, g, base(engine, layer, attrs.layers[i]!, true, scratch), dx, { beta: first ? 0 : 1 });
        first = false;
      }
      if (layer.a && layer.b) {
        const r = layer.a.shape[0]!;
        // g·B, unscaled: the scale goes into what is made of it.
        const low = viewAt(lowAt, [M, r], 'f32');
        multiply(engine, g, matrixOf(engine, layer.b), low, {});
        const flipped = (v: View): View => ({
          ...v,
          shape: [v.shape[1]!, v.shape[0]!],
          strides: [v.strides[1]!, v.strides[0]!],
        });
        multiply(engine, flipped(low), matrixOf(engine, x), da[pair]!, { alpha: scale });
        multiply(engine, flipped(g), matrixOf(engine, columns(h, rank, r)), db[pair]!, { alpha: scale });
        if (attrs.needX && dx) multiply(engine, low, matrixOf(engine, layer.a), dx, { alpha: scale, beta: 1 });
        pair++;
        rank += r;
      }
      column += outFeatures;
    });
  },
});
