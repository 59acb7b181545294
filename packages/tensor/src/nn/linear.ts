import { check, describe, type LinearAttrs, type LinearViews } from '@lowrank/kernels';
import type { Tensors } from '../ops/call.ts';
import { cast } from '../ops/primitives.ts';
import { concat, expand, reshape } from '../ops/views.ts';
import type { Tensor } from '../tensor.ts';
import type { LinearWeight } from './linear-weight.ts';
import { loraLinear } from './lora-linear.ts';
import { Module } from './module.ts';

/** What an adapter adds to a linear layer. One object stands for all active adapters of the layer. */
export interface LinearAdapter {
  /** The plain case, y = base(x) + scale · (x·Aᵀ)·Bᵀ, which whole groups of layers run as one op. Undefined where it is anything else. */
  lowRank(): { readonly a: Tensor; readonly b: Tensor; readonly scale: number } | undefined;
  /** The general case. x [M, in]; `base` gives the layer's own output [M, out]. */
  forward(x: Tensor, base: (x: Tensor) => Tensor, layer: Linear): Tensor;
}

/** y = x·Wᵀ + bias, with a weight of any format and an optional adapter. */
export class Linear extends Module {
  weight: LinearWeight;
  bias: Tensor | undefined;
  adapter: LinearAdapter | undefined;

  constructor(weight: LinearWeight, bias?: Tensor) {
    super();
    this.weight = weight;
    this.bias = bias;
  }

  get inFeatures(): number {
    return this.weight.inFeatures;
  }

  get outFeatures(): number {
    return this.weight.outFeatures;
  }

  override own(): ReadonlyMap<string, Tensor> {
    const out = new Map<string, Tensor>();
    for (const [name, t] of this.weight.tensors()) out.set(name ? `weight.${name}` : 'weight', t);
    if (this.bias) out.set('bias', this.bias);
    return out;
  }

  /** x […, in] to […, out]. */
  forward(x: Tensor): Tensor {
    return linearGroup(x, [this]);
  }

  override dispose(): void {
    super.dispose();
    this.weight.dispose();
    this.bias?.dispose();
  }
}

/** Without adapters: x·Wᵀ + bias, differentiable in everything that can be. */
function baseForward(x: Tensor, layer: Linear): Tensor {
  const n = layer.outFeatures;
  const c = layer.bias ? expand(reshape(cast(layer.bias, x.dtype), [1, n]), [x.shape[0]!, n]) : undefined;
  return layer.weight.matmul(x, c ? { c } : {});
}

/** The layer as operands of the grouped op, or undefined where it needs the general way. */
function operands(layer: Linear): { layer: Tensors<LinearViews>; attrs: LinearAttrs } | undefined {
  const low = layer.adapter?.lowRank();
  if (layer.adapter && !low) return undefined;
  const w = layer.weight.operand();
  if (('weight' in w && w.weight.requiresGrad) || layer.bias?.requiresGrad) return undefined;
  return {
    layer: {
      ...('weight' in w ? { weight: w.weight } : { quant: w.quant }),
      ...(layer.bias ? { bias: layer.bias } : {}),
      ...(low ? { a: low.a, b: low.b } : {}),
    },
    attrs: {
      outFeatures: layer.outFeatures,
      ...('attrs' in w ? { quant: w.attrs } : {}),
      ...(low ? { scale: low.scale } : {}),
    },
  };
}

/**
 * Linear layers that share their input, outputs side by side: x […, in] to […, Σ out]. Frozen bases with plain low-rank adapters run as
 * one op; anything else layer by layer.
 */
export function linearGroup(x: Tensor, layers: readonly Linear[]): Tensor {
  const k = layers[0]!.inFeatures;
  check(
    layers.every((l) => l.inFeatures === k) && x.shape[x.rank - 1] === k,
    'linear',
    'input width differs',
    () => `x ${describe(x)}, layers [${layers.map((l) => `${l.outFeatures}×${l.inFeatures}`)}]`,
  );
  const rows = reshape(x, [-1, k]);
  const group = layers.map(operands);
  let y: Tensor;
  if (group.every((g) => g !== undefined)) {
    const made = loraLinear({ x: rows, layers: group.map((g) => g.layer) }, { layers: group.map((g) => g.attrs) });
    made.h.dispose();
    y = made.y;
  } else {
    const each = layers.map((l) =>
      l.adapter ? l.adapter.forward(rows, (z) => baseForward(z, l), l) : baseForward(rows, l),
    );
    y = each.length === 1 ? each[0]! : concat(each, -1);
  }
  const out = reshape(y, [...x.shape.slice(0, -1), y.shape[1]!]);
  rows.dispose();
  y.dispose();
  return out;
}
