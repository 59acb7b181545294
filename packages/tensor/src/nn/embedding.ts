import { check, describe, type FloatDType } from '@lowrank/kernels';
import { gather } from '../ops/primitives.ts';
import type { Tensor } from '../tensor.ts';
import { Module } from './module.ts';

/** What an adapter adds to a table of rows. */
export interface EmbeddingAdapter {
  /** ids i32 [B, T]; `rows` are the table's own [B, T, K]. */
  forward(ids: Tensor, rows: Tensor, layer: Embedding): Tensor;
}

/** A table of rows, [vocabulary, width], read by ids. */
export class Embedding extends Module {
  weight: Tensor;
  adapter: EmbeddingAdapter | undefined;

  constructor(weight: Tensor) {
    super();
    check(weight.rank === 2, 'Embedding', 'needs [vocabulary, width]', () => describe(weight));
    this.weight = weight;
  }

  override own(): ReadonlyMap<string, Tensor> {
    return new Map([['weight', this.weight]]);
  }

  /** ids i32 [B, T] to rows [B, T, width] in `dtype` (the table's by default). */
  forward(ids: Tensor, dtype?: FloatDType): Tensor {
    const rows = gather(this.weight, ids, dtype);
    return this.adapter ? this.adapter.forward(ids, rows, this) : rows;
  }

  override dispose(): void {
    super.dispose();
    this.weight.dispose();
  }
}
