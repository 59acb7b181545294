import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LowrankError } from '@lowrank/tensor';
import { type Checkpoint, type CheckpointStore, keptSteps } from '../checkpoint.ts';
import type { TrainerState } from '../state.ts';
import { readTensors, writeAll, writeTensors } from './container.ts';

const prefix = 'checkpoint-';
/** Under way: nothing that begins so counts. */
const temporary = '.new-checkpoint-';
/** Replaced by a new one of the same step, and soon gone. */
const replaced = '.old-checkpoint-';
const tensorFile = 'trainer.safetensors';
const stateFile = 'trainer_state.json';

/**
 * Checkpoints as folders `checkpoint-<step>` of a folder. Each is written under another name, flushed to the disk, and renamed: whenever the
 * process ends, what bears the name is whole. The last `keep` stay, and the best.
 */
export class FolderCheckpoints implements CheckpointStore {
  readonly folder: string;
  readonly #keep: number;

  constructor(folder: string, options: { readonly keep?: number } = {}) {
    this.folder = folder;
    this.#keep = options.keep ?? 3;
  }

  async save({ state, tensors, files }: Checkpoint): Promise<string> {
    const final = join(this.folder, `${prefix}${state.step}`);
    const work = join(this.folder, `${temporary}${state.step}`);
    await mkdir(this.folder, { recursive: true });
    await this.#recover();
    try {
      await mkdir(work);
      await writeFile(join(work, tensorFile), (file) => writeTensors(file, tensors));
      for (const [name, bytes] of files ?? []) await writeFile(join(work, name), (file) => writeAll(file, bytes));
      const json = new TextEncoder().encode(`${JSON.stringify(state, undefined, 1)}\n`);
      await writeFile(join(work, stateFile), (file) => writeAll(file, json));
      await flushFolder(work);
    } catch (cause) {
      await rm(work, { recursive: true, force: true });
      if (cause instanceof LowrankError) throw cause;
      const code = (cause as NodeJS.ErrnoException).code;
      const hint =
        code === 'ENOSPC'
          ? 'The disk is full: free some space, then resume; earlier checkpoints are whole'
          : 'Earlier checkpoints are whole';
      throw new LowrankError('checkpoint', 'cannot be written', `${final}: ${(cause as Error).message}`, hint, {
        cause,
      });
    }
    await this.#replace(work, final, state.step);
    await this.#prune(state.best?.step);
    return final;
  }

  async load(which: 'latest' | 'best' | number = 'latest') {
    await this.#recover();
    const steps = await this.#steps();
    const latest = steps.at(-1);
    if (latest === undefined) return undefined;
    const step = which === 'latest' ? latest : which === 'best' ? (await this.#state(latest)).best?.step : which;
    if (step === undefined || !steps.includes(step)) return undefined;
    const where = join(this.folder, `${prefix}${step}`);
    const state = await this.#state(step);
    const path = join(where, tensorFile);
    const size = await readFrom(path, where, async (file) => (await file.stat()).size);
    const read = (offset: number, length: number) =>
      readFrom(path, where, (file) => readExactly(file, offset, length, where));
    return { state, tensors: await readTensors(read, size, path), where };
  }

  async #state(step: number): Promise<TrainerState> {
    const path = join(this.folder, `${prefix}${step}`, stateFile);
    try {
      return JSON.parse(await readFile(path, 'utf8'));
    } catch (cause) {
      throw new LowrankError(
        'resume',
        'checkpoint is damaged',
        `${path}: ${(cause as Error).message}`,
        'Resume from another checkpoint',
        { cause },
      );
    }
  }

  /** Steps that are saved, ascending. */
  async #steps(): Promise<number[]> {
    const names = await readdir(this.folder).catch((): string[] => []);
    return names
      .flatMap((n) => (/^checkpoint-\d+$/.test(n) ? [Number(n.slice(prefix.length))] : []))
      .sort((a, b) => a - b);
  }

  async #replace(work: string, final: string, step: number): Promise<void> {
    const old = join(this.folder, `${replaced}${step}`);
    await rename(final, old).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await rename(work, final);
    await flushFolder(this.folder);
    await rm(old, { recursive: true, force: true });
  }

  /** Clears what a process left that was ended in the middle of saving. */
  async #recover(): Promise<void> {
    const names = await readdir(this.folder).catch((): string[] => []);
    for (const name of names) {
      const path = join(this.folder, name);
      if (name.startsWith(temporary)) await rm(path, { recursive: true, force: true });
      else if (name.startsWith(replaced)) {
        const step = name.slice(replaced.length);
        if (names.includes(`${prefix}${step}`)) await rm(path, { recursive: true, force: true });
        else await rename(path, join(this.folder, `${prefix}${step}`));
      }
    }
  }

  async #prune(best: number | undefined): Promise<void> {
    const steps = await this.#steps();
    const kept = keptSteps(steps, this.#keep, best);
    for (const step of steps) {
      if (kept.has(step)) continue;
      // out of sight first, so that no half-deleted folder bears a checkpoint's name
      const going = join(this.folder, `${temporary}${step}`);
      await rename(join(this.folder, `${prefix}${step}`), going);
      await rm(going, { recursive: true, force: true });
    }
  }
}

async function writeFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await write(file);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Names in a folder reach the disk. Some systems cannot; the rename is atomic there too. */
async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

async function readFrom<T>(path: string, where: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r').catch((cause: Error) => {
    throw new LowrankError(
      'resume',
      'checkpoint is damaged',
      `${where}: ${cause.message}`,
      'Resume from another checkpoint',
      { cause },
    );
  });
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

async function readExactly(file: FileHandle, offset: number, length: number, where: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
    if (bytesRead === 0)
      throw new LowrankError(
        'resume',
        'checkpoint is damaged',
        `${where}: it ends at byte ${offset + at}`,
        'Resume from another checkpoint',
      );
    at += bytesRead;
  }
  return bytes;
}
