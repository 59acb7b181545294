import { defineReference, type RefArray, zeros } from '../common/reference.ts';
import { baseWeight } from '../lora-linear/reference.ts';
import type { LoraLinearBackward } from './contract.ts';

export const reference = defineReference<LoraLinearBackward>(({ dy, x, h, layers }, attrs) => {
  const [m, k] = x.shape as [number, number];
  const total = dy.shape[1]!;
  const ranks = h.shape[1]!;
  const dx = zeros([m, k], dy.dtype);
  const da: RefArray[] = [];
  const db: RefArray[] = [];
  let column = 0;
  let hColumn = 0;
  layers.forEach((layer, index) => {
    const { outFeatures: n, scale = 1 } = attrs.layers[index]!;
    const dyAt = (i: number, j: number) => dy.data[i * total + column + j]!;
    if (attrs.needX) {
      const w = baseWeight(layer, attrs.layers[index]!); // [N, K]
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) for (let l = 0; l < k; l++) dx.data[i * k + l]! += dyAt(i, j) * w[j * k + l]!;
    }
    if (layer.a && layer.b) {
      const r = layer.a.shape[0]!;
      const dai = zeros([r, k], 'f32');
      const dbi = zeros([n, r], 'f32');
      for (let i = 0; i < m; i++)
        for (let p = 0; p < r; p++) {
          let g = 0; // sᵢ · dyᵢ·Bᵢ
          for (let j = 0; j < n; j++) g += scale * dyAt(i, j) * layer.b.data[j * r + p]!;
          for (let l = 0; l < k; l++) {
            dai.data[p * k + l]! += g * x.data[i * k + l]!;
            if (attrs.needX) dx.data[i * k + l]! += g * layer.a.data[p * k + l]!;
          }
          for (let j = 0; j < n; j++) dbi.data[j * r + p]! += scale * dyAt(i, j) * h.data[i * ranks + hColumn + p]!;
        }
      da.push(dai);
      db.push(dbi);
      hColumn += r;
    }
    column += n;
  });
  return { dx: attrs.needX ? dx : undefined, da, db };
});
