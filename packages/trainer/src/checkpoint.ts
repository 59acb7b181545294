import { bytesOf, type DType, LowrankError, sizeOf } from '@lowrank/tensor';
import type { StateEntry } from './optim/optimizer.ts';
import type { TrainerState } from './state.ts';

/** A tensor of a checkpoint, read when asked for. */
export interface SavedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  read(): Promise<Uint8Array>;
}

/** What a run is saved as: its place, its trained parameters (`parameters.<name>`), and the optimizer's memory. */
export interface Checkpoint {
  readonly state: TrainerState;
  readonly tensors: ReadonlyMap<string, SavedTensor>;
  /** Files beside them, for other readers. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
}

/**
 * Where checkpoints are kept: `FolderCheckpoints` of `@lowrank/trainer/node`, `MemoryCheckpoints`, or one of your own.
 * A checkpoint is there whole or not at all, whenever the process ends.
 */
export interface CheckpointStore {
  /** Saves under the state's step, in place of one of the same step; gives the place's name. Tensors are read one at a time. */
  save(checkpoint: Checkpoint): Promise<string>;
  /** The one of the highest step, of the lowest evaluation loss (as the latest knows it), or of a step. Undefined where there is none. */
  load(which?: 'latest' | 'best' | number): Promise<(Checkpoint & { readonly where: string }) | undefined>;
}

/** Which saved steps to keep: the last ones, and the best. */
export function keptSteps(steps: readonly number[], keep: number, best: number | undefined): Set<number> {
  const last = [...steps].sort((a, b) => a - b).slice(-Math.max(1, keep));
  return new Set(best === undefined ? last : [...last, best]);
}

/** Checkpoints in the host's memory: for tests, and for pages that save elsewhere. */
export class MemoryCheckpoints implements CheckpointStore {
  readonly #keep: number;
  readonly #saved = new Map<number, Checkpoint>();

  constructor(options: { readonly keep?: number } = {}) {
    this.#keep = options.keep ?? 3;
  }

  get steps(): number[] {
    return [...this.#saved.keys()].sort((a, b) => a - b);
  }

  async save({ state, tensors, files }: Checkpoint): Promise<string> {
    const copy = new Map<string, SavedTensor>();
    for (const [name, { dtype, shape, read }] of tensors) {
      const bytes = (await read()).slice();
      copy.set(name, { dtype, shape, read: async () => bytes });
    }
    this.#saved.set(state.step, { state: structuredClone(state), tensors: copy, ...(files ? { files } : {}) });
    const kept = keptSteps(this.steps, this.#keep, state.best?.step);
    for (const step of this.steps) if (!kept.has(step)) this.#saved.delete(step);
    return `memory, step ${state.step}`;
  }

  async load(which: 'latest' | 'best' | number = 'latest') {
    const latest = this.#saved.get(this.steps.at(-1) ?? -1);
    const found =
      which === 'latest' ? latest : this.#saved.get(which === 'best' ? (latest?.state.best?.step ?? -1) : which);
    return found && { ...found, state: structuredClone(found.state), where: `memory, step ${found.state.step}` };
  }
}

/** Writes a checkpoint's tensors where they belong. Every one must find its place, and every place its tensor, before any is written. */
export async function restore(
  saved: ReadonlyMap<string, SavedTensor>,
  entries: readonly StateEntry[],
  where: string,
): Promise<void> {
  const list = (names: readonly string[]) =>
    `${names.slice(0, 4).join(', ')}${names.length > 4 ? ` and ${names.length - 4} more` : ''}`;
  const wanted = new Set(entries.map((e) => e.name));
  const missing = entries.filter((e) => !saved.has(e.name)).map((e) => e.name);
  const unused = [...saved.keys()].filter((name) => !wanted.has(name));
  if (missing.length || unused.length) {
    const facts = [
      missing.length ? `it lacks ${list(missing)}` : '',
      unused.length ? `nothing here takes ${list(unused)}` : '',
    ];
    throw new LowrankError(
      'resume',
      'checkpoint does not fit what is trained',
      `${where}: ${facts.filter(Boolean).join('; ')}`,
      'Train the same parameters with the same optimizer',
    );
  }
  for (const { name, dtype, shape } of entries) {
    const there = saved.get(name)!;
    if (there.dtype !== dtype || there.shape.join() !== shape.join())
      throw new LowrankError(
        'resume',
        'checkpoint does not fit what is trained',
        `${where}: ${name} is [${there.shape}] ${there.dtype}, here [${shape}] ${dtype}`,
      );
  }
  for (const entry of entries) {
    const bytes = await saved.get(entry.name)!.read();
    const expected = sizeOf(entry.shape) * bytesOf[entry.dtype];
    if (bytes.byteLength !== expected)
      throw new LowrankError(
        'resume',
        'checkpoint is damaged',
        `${where}: ${entry.name} has ${bytes.byteLength} bytes of ${expected}`,
      );
    entry.write(bytes);
  }
}
