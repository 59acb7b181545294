import type { Tensor } from '@lowrank/tensor';

/** A model that gives hidden states, and logits of them apart: `CausalLm` of `@lowrank/models`, or one of your own. */
export interface Drivable<I> {
  /** Hidden states [B, T, K] of ids i32 [B, T]. */
  hidden(ids: Tensor, input: I): Tensor;
  /** Logits [n, V] of rows [n, K]. */
  head(rows: Tensor): Tensor;
  /** Called before rows of up to so many tokens come. */
  prepare?(length: number): unknown;
  readonly config?: { readonly vocabSize?: number };
}

/** What the `Trainer` of `@lowrank/trainer` takes as its model. */
export interface Trainee<I> {
  parameters(): ReadonlyMap<string, Tensor>;
  hidden(ids: Tensor, input: I): Tensor;
  head(rows: Tensor): Tensor;
  prepare(length: number): void;
  setTraining(on: boolean): void;
  readonly vocabSize?: number;
}
