import { FormatError, nearest, quote } from '../error.ts';
import type { ByteSource } from '../source.ts';
import { closeOnError } from '../source.ts';
import type { SafetensorsFile } from './file.ts';
import { openSafetensors } from './file.ts';
import type { SafetensorsTensor } from './header.ts';
import { parseShardIndex } from './shard-index.ts';

/** Finds a file of a checkpoint by its plain name (`model.safetensors`); undefined when there is none. */
export type FileResolver = (fileName: string) => Promise<ByteSource | undefined>;

/** Which files to look for. */
export interface CheckpointOptions {
  /** The checkpoint's stem: `model` (default) looks for `model.safetensors`, then `model.safetensors.index.json`. */
  stem?: string;
}

/**
 * One safetensors file or many shards as one set of tensors. Names are known at once; a shard is opened when a tensor of it is
 * first asked for. Made by `openCheckpoint`.
 */
export class Checkpoint {
  /** Name of every tensor → the file that holds it, in the order of the file or index. */
  readonly files: ReadonlyMap<string, string>;
  readonly #resolve: FileResolver;
  readonly #open = new Map<string, Promise<SafetensorsFile>>();
  readonly #index: string;

  constructor(files: ReadonlyMap<string, string>, resolve: FileResolver, index: string, opened?: SafetensorsFile) {
    this.files = files;
    this.#resolve = resolve;
    this.#index = index;
    if (opened !== undefined) this.#open.set(index, Promise.resolve(opened));
  }

  /** Whether the checkpoint has a tensor of this name. Opens nothing. */
  has(name: string): boolean {
    return this.files.has(name);
  }

  /** dtype, shape and place of a tensor. */
  async tensor(name: string): Promise<SafetensorsTensor> {
    return (await this.#shardOf(name)).tensor(name);
  }

  /** Every tensor, after opening every shard, in the order of `files`. */
  async tensors(): Promise<Map<string, SafetensorsTensor>> {
    const all = new Map<string, SafetensorsTensor>();
    for (const name of this.files.keys()) all.set(name, await this.tensor(name));
    return all;
  }

  /** `__metadata__` of the first file. */
  async metadata(): Promise<Readonly<Record<string, string>>> {
    const first = this.files.values().next();
    return first.done ? {} : (await this.#shard(first.value)).metadata;
  }

  /** Bytes `begin` to `end` of a tensor (default: all); see `SafetensorsFile.read`. */
  async read(name: string, begin?: number, end?: number): Promise<Uint8Array> {
    return (await this.#shardOf(name)).read(name, begin, end);
  }

  /** A tensor's bytes in chunks; see `SafetensorsFile.stream`. */
  async *stream(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, undefined> {
    yield* (await this.#shardOf(name)).stream(name, chunkBytes);
  }

  /** A tensor's bytes in chunks that are lent; see `SafetensorsFile.lend`. */
  async *lend(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, undefined> {
    yield* (await this.#shardOf(name)).lend(name, chunkBytes);
  }

  /** Closes every shard that was opened. */
  async close(): Promise<void> {
    const shards = await Promise.allSettled(this.#open.values());
    this.#open.clear();
    for (const shard of shards) if (shard.status === 'fulfilled') await shard.value.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #shardOf(name: string): Promise<SafetensorsFile> {
    const file = this.files.get(name);
    if (file !== undefined) return this.#shard(file);
    throw new FormatError('checkpoint', 'the tensor must be in the checkpoint', {
      file: this.#index,
      facts: `no ${quote(name)} among ${this.files.size} tensors`,
      hint: this.files.size === 0 ? undefined : `Nearest: ${nearest(name, this.files.keys())}.`,
    });
  }

  #shard(file: string): Promise<SafetensorsFile> {
    let shard = this.#open.get(file);
    if (shard === undefined) {
      shard = this.#openShard(file);
      this.#open.set(file, shard);
      // A shard that failed is tried again the next time it is asked for.
      shard.catch(() => this.#open.delete(file));
    }
    return shard;
  }

  async #openShard(file: string): Promise<SafetensorsFile> {
    const source = await this.#resolve(file);
    const needed = [...this.files].filter(([, holder]) => holder === file).map(([name]) => name);
    if (source === undefined) {
      throw new FormatError('checkpoint', 'every shard must be there', {
        file: this.#index,
        facts: `${quote(file)}, which holds ${needed.length} tensors (${quote(needed[0]!)} …), is missing`,
        hint: 'Put it beside the index, or download the checkpoint again.',
      });
    }
    const shard = await openSafetensors(source);
    return closeOnError(source, async () => {
      const missing = needed.filter((name) => !shard.tensors.has(name));
      if (missing.length === 0) return shard;
      throw new FormatError('checkpoint', 'a shard must hold the tensors its index names', {
        file,
        facts: `${missing.length} are missing, first ${quote(missing[0]!)} (${this.#index})`,
        hint: `In the shard are ${nearest(missing[0]!, shard.tensors.keys()) || 'no tensors'}.`,
      });
    });
  }
}

/**
 * Opens the safetensors checkpoint that `resolve` reaches: `model.safetensors` where there is one, else the shards that
 * `model.safetensors.index.json` names. Throws `FormatError` when neither is there or the first is malformed.
 */
export async function openCheckpoint(resolve: FileResolver, options: CheckpointOptions = {}): Promise<Checkpoint> {
  const stem = options.stem ?? 'model';
  const single = `${stem}.safetensors`;
  const index = `${single}.index.json`;
  const source = await resolve(single);
  if (source !== undefined) {
    const file = await openSafetensors(source);
    return new Checkpoint(new Map([...file.tensors.keys()].map((name) => [name, single])), resolve, single, file);
  }
  const indexSource = await resolve(index);
  if (indexSource === undefined) {
    throw new FormatError('checkpoint', 'a checkpoint must have weights', {
      file: single,
      facts: `neither ${single} nor ${index} was found`,
      hint: 'Name the folder that holds them. Weights in pytorch_model.bin must be converted to safetensors first.',
    });
  }
  try {
    return new Checkpoint(await parseShardIndex(indexSource), resolve, index);
  } finally {
    await indexSource.close?.();
  }
}
