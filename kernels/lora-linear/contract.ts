import { defineContract } from '../common/contract.ts';
import { isFloat } from '../common/dtype.ts';
import { check } from '../common/error.ts';
import { checkQuant, type QuantAttrs, type QuantViews } from '../common/quant.ts';
import { describe, sameShape, specOf, type TensorSpec, type View } from '../common/view.ts';

/** One linear layer of a group: a dense weight [N, K] or a quantized one, with an optional bias [N] and low-rank pair a [r, K], b [N, r]. */
export interface LinearViews {
  readonly weight?: View;
  readonly quant?: QuantViews;
  readonly bias?: View;
  readonly a?: View;
  readonly b?: View;
}

/** Static facts of one layer of a group. `quant` is there exactly when the weight is quantized; `scale` is s = alpha/r. */
export interface LinearAttrs {
  readonly outFeatures: number;
  readonly quant?: QuantAttrs;
  readonly scale?: number;
}

/**
 * A group of linear layers that share their input (q, k, v; gate, up; or one alone): y [M, ΣN] holds x·Wᵢᵀ + biasᵢ + sᵢ (x·Aᵢᵀ)·Bᵢᵀ side by side.
 * h [M, Σr] = x·Aᵀ side by side (unscaled, layers without a pair left out) is kept for the backward pass. f32 sums; y and h of x's dtype.
 */
export interface LoraLinear {
  inputs: { x: View; layers: readonly LinearViews[] };
  outputs: { y: View; h: View };
  attrs: { layers: readonly LinearAttrs[] };
}

type LinearSpecs = { [K in keyof LinearViews]?: TensorSpec | undefined } & {
  quant?: Parameters<typeof checkQuant>[1] | undefined;
};

/** Shared by forward and backward: checks a group against K inputs; gives ΣN and Σr. */
export function checkLinears(
  op: string,
  k: number,
  layers: readonly LinearSpecs[],
  attrs: readonly LinearAttrs[],
): { n: number; r: number } {
  check(
    layers.length === attrs.length && layers.length > 0,
    op,
    'a group needs attributes for each layer',
    `${layers.length} layers, ${attrs.length} attributes`,
  );
  let n = 0;
  let r = 0;
  layers.forEach((layer, i) => {
    const at = attrs[i]!;
    const shape = [at.outFeatures, k];
    if (at.quant) {
      check(
        layer.quant && !layer.weight && sameShape(at.quant.shape, shape),
        op,
        'quantized weight does not fit',
        () => `layer ${i}: [${at.quant?.shape}], expected [${shape}]`,
      );
      checkQuant(op, layer.quant, at.quant);
    } else
      check(
        layer.weight && !layer.quant && sameShape(layer.weight.shape, shape) && isFloat(layer.weight.dtype),
        op,
        'weight does not fit',
        () => `layer ${i}: ${layer.weight ? describe(layer.weight) : 'none'}, expected [${shape}]`,
      );
    check(!layer.bias || sameShape(layer.bias.shape, [at.outFeatures]), op, 'bias does not fit', () => `layer ${i}`);
    check(!layer.a === !layer.b, op, 'a and b come together', () => `layer ${i}`);
    if (layer.a && layer.b) {
      const rank = layer.a.shape[0]!;
      check(
        sameShape(layer.a.shape, [rank, k]) &&
          sameShape(layer.b.shape, [at.outFeatures, rank]) &&
          at.scale !== undefined,
        op,
        'a must be [r, K], b [N, r], with a scale',
        () => `layer ${i}: a ${describe(layer.a!)}, b ${describe(layer.b!)}, weight [${shape}]`,
      );
      r += rank;
    }
    n += at.outFeatures;
  });
  return { n, r };
}

export const loraLinear = defineContract<LoraLinear>({
  name: 'loraLinear',
  infer: ({ x, layers }, attrs) => {
    check(isFloat(x.dtype) && x.shape.length === 2, 'loraLinear', 'x must be floats [M, K]', () => describe(x));
    const { n, r } = checkLinears('loraLinear', x.shape[1]!, layers as readonly LinearSpecs[], attrs.layers);
    return { y: specOf([x.shape[0]!, n], x.dtype), h: specOf([x.shape[0]!, r], x.dtype) };
  },
});
