import { cast, check, copyInto, keep, noGrad, reshape, scope, slice, type Tensor } from '@lowrank/tensor';
import { entriesOver } from './entries.ts';
import type { Optimizer, StateEntry } from './optimizer.ts';
import type { Parameters, Unit } from './parameters.ts';

export interface SgdOptions {
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
}

interface Slot {
  readonly unit: Unit;
  /** Absent without momentum. */
  readonly buffer: Tensor | undefined;
  /** f32 [2]: learning rate, weight decay. */
  readonly hyper: Tensor;
}

/** Stochastic gradient descent with momentum: g ← g + λp; b ← μb + g; p ← p − lr·b (Nesterov: p ← p − lr·(g + μb)), as PyTorch has it. */
export class Sgd implements Optimizer {
  readonly name = 'sgd';
  readonly #options: Required<SgdOptions>;
  readonly #slots: readonly Slot[];

  constructor(parameters: Parameters, options: SgdOptions = {}) {
    const { device } = parameters;
    this.#options = { momentum: 0, nesterov: false, weightDecay: 0, ...options };
    const { momentum, nesterov } = this.#options;
    check(momentum >= 0 && momentum < 1, 'sgd', 'momentum must be in [0, 1)', String(momentum));
    check(!nesterov || momentum > 0, 'sgd', 'Nesterov needs momentum');
    this.#slots = device.withClass('optimizer', () =>
      parameters.units.map((unit) => ({
        unit,
        buffer: momentum > 0 ? keep(device.zeros(unit.value.shape)) : undefined,
        hyper: keep(device.zeros([2])),
      })),
    );
  }

  prepare(_step: number, learningRate: number): void {
    for (const { unit, hyper } of this.#slots) {
      const { learningRateScale, weightDecay = this.#options.weightDecay } = unit.group;
      hyper.device.write(hyper, Float32Array.of(learningRate * learningRateScale, weightDecay));
    }
  }

  apply(gradScale?: Tensor): void {
    const { momentum, nesterov } = this.#options;
    for (const { unit, buffer, hyper } of this.#slots)
      noGrad(() =>
        scope(() => {
          const at = (i: number) => reshape(slice(hyper, 0, i, i + 1), []);
          const p = cast(unit.value, 'f32');
          const scaled = gradScale ? unit.grad.mul(reshape(gradScale, [])) : unit.grad;
          const g = scaled.add(p.mul(at(1)));
          let direction = g;
          if (buffer) {
            copyInto(buffer.mul(momentum).add(g), buffer);
            direction = nesterov ? g.add(buffer.mul(momentum)) : buffer;
          }
          copyInto(cast(p.sub(direction.mul(at(0))), unit.value.dtype), unit.value);
        }),
      );
  }

  *state(): Generator<StateEntry> {
    for (const { unit, buffer } of this.#slots) if (buffer) yield* entriesOver('sgd.momentum', unit, buffer);
  }

  dispose(): void {
    for (const { buffer, hyper } of this.#slots) {
      buffer?.dispose();
      hyper.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
