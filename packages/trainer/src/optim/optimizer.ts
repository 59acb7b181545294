import type { DType, Tensor } from '@lowrank/tensor';

/** A tensor that a checkpoint holds: read from, and written to, the device when asked. */
export interface StateEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  read(): Promise<Uint8Array>;
  write(bytes: Uint8Array): void;
}

/** Updates parameters from their gradients. `apply` is device work alone, so that it can be recorded; what changes is written before. */
export interface Optimizer extends Disposable {
  readonly name: string;
  /** Writes the learning rate and the corrections of a step, counted from 1. */
  prepare(step: number, learningRate: number): void;
  /** Enqueues the update. `gradScale` f32 [1] multiplies gradients. */
  apply(gradScale?: Tensor): void;
  /** The optimizer's memory by parameter. */
  state(): Iterable<StateEntry>;
  dispose(): void;
}
