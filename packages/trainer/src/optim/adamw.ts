import { cast, check, copyInto, keep, noGrad, scope, type Tensor } from '@lowrank/tensor';
import { adamw } from './adamw-op.ts';
import { entriesOver } from './entries.ts';
import type { Optimizer, StateEntry } from './optimizer.ts';
import type { Parameters, Unit } from './parameters.ts';

export interface AdamWOptions {
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  readonly weightDecay?: number;
  /** Keep f32 copies of parameters stored in halves, so that small updates are not lost. On by default. */
  readonly masterWeights?: boolean;
}

interface Slot {
  readonly unit: Unit;
  readonly m: Tensor;
  readonly v: Tensor;
  readonly master: Tensor | undefined;
  /** f32 [4]: lr, weight decay, 1 − β₁ᵗ, √(1 − β₂ᵗ). Shared by the units of a group. */
  readonly hyper: Tensor;
}

/** AdamW (Loshchilov and Hutter 2019), in PyTorch's order of operations. */
export class AdamW implements Optimizer {
  readonly name = 'adamw';
  readonly #options: Required<AdamWOptions>;
  readonly #slots: readonly Slot[];

  constructor(parameters: Parameters, options: AdamWOptions = {}) {
    const { device } = parameters;
    this.#options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, masterWeights: true, ...options };
    for (const b of [this.#options.beta1, this.#options.beta2])
      check(b >= 0 && b < 1, 'adamw', 'betas must be in [0, 1)', String(b));
    const hypers = new Map<object, Tensor>();
    this.#slots = device.withClass('optimizer', () =>
      noGrad(() =>
        parameters.units.map((unit) => {
          const { value, group } = unit;
          if (!hypers.has(group)) hypers.set(group, keep(device.zeros([4])));
          const state = () => keep(device.zeros(value.shape));
          const master =
            value.dtype !== 'f32' && this.#options.masterWeights ? keep(scope(() => cast(value, 'f32'))) : undefined;
          return { unit, m: state(), v: state(), master, hyper: hypers.get(group)! };
        }),
      ),
    );
  }

  prepare(step: number, learningRate: number): void {
    const { beta1, beta2, weightDecay } = this.#options;
    const written = new Set<Tensor>();
    for (const { unit, hyper } of this.#slots) {
      if (written.has(hyper)) continue;
      written.add(hyper);
      const decay = unit.group.weightDecay ?? weightDecay;
      const numbers = [
        learningRate * unit.group.learningRateScale,
        decay,
        1 - beta1 ** step,
        Math.sqrt(1 - beta2 ** step),
      ];
      hyper.device.write(hyper, Float32Array.from(numbers));
    }
  }

  apply(gradScale?: Tensor): void {
    const { beta1, beta2, eps } = this.#options;
    for (const { unit, m, v, master, hyper } of this.#slots)
      scope(() => {
        const p = master ?? unit.value;
        noGrad(() =>
          adamw(
            { p, g: unit.grad, m, v, hyper, ...(gradScale ? { gradScale } : {}) },
            { beta1, beta2, eps },
            { into: { p, m, v } },
          ),
        );
        if (master)
          copyInto(
            noGrad(() => cast(master, unit.value.dtype)),
            unit.value,
          );
      });
  }

  *state(): Generator<StateEntry> {
    for (const { unit, m, v, master } of this.#slots) {
      yield* entriesOver('adamw.m', unit, m);
      yield* entriesOver('adamw.v', unit, v);
      if (master) yield* entriesOver('adamw.master', unit, master);
    }
  }

  dispose(): void {
    for (const { m, v, master, hyper } of this.#slots) for (const t of [m, v, master, hyper]) t?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
