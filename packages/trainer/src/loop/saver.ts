import { LowrankError } from '@lowrank/tensor';
import { type Checkpoint, restore } from '../checkpoint.ts';
import { entryOf } from '../optim/entries.ts';
import type { Optimizer, StateEntry } from '../optim/optimizer.ts';
import type { Parameters } from '../optim/parameters.ts';
import type { Resolved } from '../options.ts';
import { checkSettings, type TrainerState } from '../state.ts';

/** Saves a run's state, and brings it back. */
export class Saver {
  readonly #o: Pick<Resolved, 'checkpoints' | 'checkpointFiles' | 'metrics' | 'onSave'>;
  readonly #state: TrainerState;
  readonly #parameters: Parameters;
  readonly #optimizer: Optimizer;
  /** The step that was saved last, or resumed from, and where that is. */
  last: { readonly step: number; readonly where: string } | undefined;

  constructor(
    options: Pick<Resolved, 'checkpoints' | 'checkpointFiles' | 'metrics' | 'onSave'>,
    state: TrainerState,
    parameters: Parameters,
    optimizer: Optimizer,
  ) {
    this.#o = options;
    this.#state = state;
    this.#parameters = parameters;
    this.#optimizer = optimizer;
  }

  /** Everything that a checkpoint holds, by name. */
  *#entries(): Generator<StateEntry> {
    for (const [name, tensor] of this.#parameters.named) yield entryOf(`parameters.${name}`, tensor);
    yield* this.#optimizer.state();
  }

  get #store() {
    const { checkpoints } = this.#o;
    if (!checkpoints) throw new LowrankError('checkpoint', 'the trainer has no checkpoint store');
    return checkpoints;
  }

  /** Throws where a run that starts anew would write among the checkpoints of another. */
  async begin(): Promise<void> {
    if (this.last || this.#state.step > 0) return;
    const there = await this.#o.checkpoints?.load();
    if (there)
      throw new LowrankError('checkpoint', 'there is a run already', there.where, 'Resume it, or save somewhere else');
  }

  async save(): Promise<string> {
    const { checkpointFiles, onSave } = this.#o;
    const files = await checkpointFiles?.();
    const tensors: Checkpoint['tensors'] = new Map([...this.#entries()].map((e) => [e.name, e]));
    const where = await this.#store.save({ state: this.#state, tensors, ...(files ? { files } : {}) });
    this.last = { step: this.#state.step, where };
    await onSave?.(this.last);
    return where;
  }

  async resume(which: 'latest' | 'best' | number): Promise<number | undefined> {
    const saved = await this.#store.load(which);
    if (!saved) {
      await this.#o.metrics?.resume?.(0);
      return undefined;
    }
    checkSettings(saved.state, this.#state.settings, saved.where);
    await restore(saved.tensors, [...this.#entries()], saved.where);
    Object.assign(this.#state, saved.state);
    this.last = { step: saved.state.step, where: saved.where };
    await this.#o.metrics?.resume?.(saved.state.step);
    return saved.state.step;
  }

  /** Puts the best parameters in place. Throws where their checkpoint is gone. */
  async loadBest(): Promise<void> {
    const { best, step } = this.#state;
    if (!best || best.step === step) return;
    const saved = await this.#store.load(best.step);
    if (!saved)
      throw new LowrankError(
        'checkpoint',
        'the best one is gone',
        `step ${best.step}, evaluation loss ${best.loss}; the last one holds step ${step}`,
        'Leave out loadBestAtEnd, or give the store that holds it',
      );
    await restore(saved.tensors, [...this.#entries()], saved.where);
  }
}
