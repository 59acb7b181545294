import { rmsNorm } from '../fused/rms-norm.ts';
import type { Tensor } from '../tensor.ts';
import { Module } from './module.ts';

/** x / √(mean(x²) + eps) · weight over the last axis. */
export class RmsNorm extends Module {
  readonly eps: number;

  /** Takes over `weight` [D]. */
  constructor(weight: Tensor, eps: number) {
    super();
    this.eps = eps;
    this.parameter('weight', weight);
  }

  get weight(): Tensor {
    return this.own().get('weight')!;
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.eps);
  }
}
