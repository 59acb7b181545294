import { defineContract } from '../common/contract.ts';
import { check } from '../common/error.ts';
import { describe, sameShape, specOf, type View } from '../common/view.ts';
import { checkLinears, type LinearAttrs, type LinearViews } from '../lora-linear/contract.ts';

/**
 * Backward of `loraLinear` for the input and the low-rank pairs (the base is frozen). With dyᵢ the columns of layer i and gᵢ = sᵢ · dyᵢ·Bᵢ:
 * dx = Σᵢ dyᵢ·Wᵢ + gᵢ·Aᵢ (if needX; may lie over x), daᵢ = gᵢᵀ·x, dbᵢ = sᵢ · dyᵢᵀ·hᵢ (f32, for each layer with a pair, in order).
 */
export interface LoraLinearBackward {
  inputs: { dy: View; x: View; h: View; layers: readonly LinearViews[] };
  outputs: { dx?: View; da: readonly View[]; db: readonly View[] };
  attrs: { layers: readonly LinearAttrs[]; needX: boolean };
}

export const loraLinearBackward = defineContract<LoraLinearBackward>({
  name: 'loraLinearBackward',
  inplace: [['dx', 'x']],
  infer: ({ dy, x, h, layers }, attrs) => {
    const { n, r } = checkLinears(
      'loraLinearBackward',
      x.shape[1]!,
      layers as Parameters<typeof checkLinears>[2],
      attrs.layers,
    );
    check(
      sameShape(dy.shape, [x.shape[0]!, n]) && sameShape(h.shape, [x.shape[0]!, r]),
      'loraLinearBackward',
      'dy or h do not fit',
      () => `dy ${describe(dy)}, h ${describe(h)}, x ${describe(x)}`,
    );
    const pairs = layers.filter((l) => l.a);
    return {
      dx: attrs.needX ? specOf(x.shape, dy.dtype) : undefined,
      da: pairs.map((l) => specOf(l.a!.shape, 'f32')),
      db: pairs.map((l) => specOf(l.b!.shape, 'f32')),
    };
  },
});
