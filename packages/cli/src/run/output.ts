import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { AtomicFileWriter } from '@lowrank/formats/node';
import type { ModelFiles } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';

/** What training writes into its folder; nothing else there is ever deleted. */
const written =
  /^(adapter_config\.json|adapter_model\.safetensors|README\.md|metrics\.jsonl(\.new)?|report\.html|lowrank\.json|checkpoint-\d+|merged|\.(new|old)-checkpoint-\d+|model.*\.safetensors(\.index\.json)?|config\.json|generation_config\.json|tokenizer.*\.json|special_tokens_map\.json|chat_template\.(jinja|json))$/;

/** Makes the folder of a training run: a new one, an earlier run's that is gone on with, or one that is to be replaced. */
export async function prepareRunFolder(
  folder: string,
  options: { overwrite?: boolean | undefined; resume?: boolean },
): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new LowrankError(
      'output',
      error.code === 'ENOTDIR' ? 'a file of this name is there' : 'the folder cannot be read',
      `${folder}: ${error.message}`,
    );
  });
  if (names.length && !options.resume) {
    if (!options.overwrite)
      throw new LowrankError(
        'output',
        'the folder is there and not empty',
        `${folder} (${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''})`,
        'Choose another --output, go on with --resume, or replace it with --overwrite',
      );
    for (const name of names) if (written.test(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
  await mkdir(folder, { recursive: true });
}

/**
 * Writes a whole folder under another name and renames it when it is complete: whenever the process ends, what bears the name is whole.
 * An existing folder is an error unless it is empty or `overwrite` says otherwise, and a model or adapter lies in it.
 */
export async function writeFolder(
  folder: string,
  overwrite: boolean | undefined,
  write: (work: string) => Promise<void>,
): Promise<void> {
  const target = resolve(folder);
  const there = await readdir(target).catch(() => undefined);
  if (there === undefined && existsSync(target))
    throw new LowrankError('output', 'a file of this name is there', folder);
  if (there?.length) {
    if (!overwrite)
      throw new LowrankError(
        'output',
        'the folder is there and not empty',
        folder,
        'Choose another --output, or replace it with --overwrite',
      );
    const strange = there.filter((name) => !written.test(name));
    if (strange.length)
      throw new LowrankError(
        'output',
        'the folder holds files of others',
        `${folder}: ${strange.slice(0, 3).join(', ')}`,
        'Choose another --output',
      );
  }
  const work = join(dirname(target), `.${basename(target)}.${process.pid}.new`);
  await mkdir(work, { recursive: true });
  try {
    await write(work);
    const handle = await open(work, 'r');
    await handle.sync().catch(() => {});
    await handle.close();
    const old = join(dirname(target), `.${basename(target)}.${process.pid}.old`);
    if (there) await rename(target, old);
    await rename(work, target);
    await rm(old, { recursive: true, force: true });
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw diskError(error, folder);
  }
}

/** An error of the file system in words; others as they are. */
export function diskError(error: unknown, where: string): unknown {
  for (let e = error as NodeJS.ErrnoException | undefined; e; e = e.cause as NodeJS.ErrnoException | undefined) {
    if (e.code === 'ENOSPC')
      return new LowrankError(
        'save',
        'the disk is full',
        where,
        'Free some space and try again; what was saved before is whole',
        { cause: error },
      );
    if (e.code === 'EACCES' || e.code === 'EROFS')
      return new LowrankError('save', 'the folder cannot be written', `${where}: ${e.message}`, '', { cause: error });
  }
  return error;
}

/** Writes one small file, whole or not at all. */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  try {
    await using out = await AtomicFileWriter.create(path);
    await out.write(typeof data === 'string' ? new TextEncoder().encode(data) : data);
    await out.commit();
  } catch (error) {
    throw diskError(error, path);
  }
}

/** Files beside the weights that make a model folder whole. */
const companions = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'added_tokens.json',
];

/** Copies a model's tokenizer and the like. */
export async function copyCompanions(files: ModelFiles, folder: string): Promise<void> {
  if (files.gguf !== undefined) return;
  for (const name of companions) {
    const source = await files.open(name);
    if (!source) continue;
    await writeWhole(join(folder, name), await source.read(0, source.size));
    await source.close?.();
  }
}
