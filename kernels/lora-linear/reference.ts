import type { MapOperands } from '../common/contract.ts';
import { defineReference, type RefArray, zeros } from '../common/reference.ts';
import { dequantized } from '../dequantize/reference.ts';
import type { LinearAttrs, LinearViews, LoraLinear } from './contract.ts';

export type RefLinear = MapOperands<LinearViews, RefArray>;

/** The base weight of a layer, [N, K] row-major. */
export function baseWeight(layer: RefLinear, attrs: LinearAttrs): Float64Array {
  return attrs.quant ? dequantized(layer.quant!, attrs.quant) : layer.weight!.data;
}

export const reference = defineReference<LoraLinear>(({ x, layers }, attrs) => {
  const [m, k] = x.shape as [number, number];
  const total = attrs.layers.reduce((sum, l) => sum + l.outFeatures, 0);
  const ranks = layers.reduce((sum, l) => sum + (l.a ? l.a.shape[0]! : 0), 0);
  const y = zeros([m, total], x.dtype);
  const h = zeros([m, ranks], x.dtype);
  let column = 0; // where this layer's outputs start
  let hColumn = 0;
  layers.forEach((layer, index) => {
    const { outFeatures, scale = 1 } = attrs.layers[index]!;
    const w = baseWeight(layer, attrs.layers[index]!);
    const r = layer.a ? layer.a.shape[0]! : 0;
    for (let i = 0; i < m; i++) {
      for (let p = 0; p < r; p++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += x.data[i * k + l]! * layer.a!.data[p * k + l]!;
        h.data[i * ranks + hColumn + p] = sum;
      }
      for (let j = 0; j < outFeatures; j++) {
        let sum = layer.bias ? layer.bias.data[j]! : 0;
        for (let l = 0; l < k; l++) sum += x.data[i * k + l]! * w[j * k + l]!;
        for (let p = 0; p < r; p++) sum += scale * h.data[i * ranks + hColumn + p]! * layer.b!.data[j * r + p]!;
        y.data[i * total + column + j] = sum;
      }
    }
    column += outFeatures;
    hColumn += r;
  });
  return { y, h };
});
