import { existsSync, realpathSync, rmSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { AtomicFileWriter } from '@lowrank/formats/node';
import type { ModelFiles, Tokenizer } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';
import { onLeave } from './interrupt.ts';

/** What training writes into its folder; nothing else there is ever deleted. */
const written =
  /^(adapter_config\.json|adapter_model\.safetensors|README\.md|metrics\.jsonl(\.new)?|report\.html|lowrank\.json|checkpoint-\d+|merged|\.(new|old)-checkpoint-\d+|model.*\.safetensors(\.index\.json)?|config\.json|generation_config\.json|tokenizer.*\.json|special_tokens_map\.json|chat_template\.(jinja|json))$/;

/** What a run reads: a folder that holds some of it is never replaced. */
export interface OutputRules {
  readonly overwrite?: boolean | undefined;
  /** Models and adapters, by the paths that name them; hub ids do no harm. */
  readonly inputs: readonly string[];
}

const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path));

/** Throws where replacing `folder` would take away what the run reads. */
function checkInputs(folder: string, inputs: readonly string[]): void {
  const target = real(folder);
  const within = inputs.find((path) => existsSync(path) && `${real(path)}${sep}`.startsWith(target + sep));
  if (within !== undefined)
    throw new LowrankError('output', 'what is read lies in the folder to replace', within, 'Choose another --output');
}

/** The names in a folder; none where it is not there. */
async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new LowrankError(
      'output',
      error.code === 'ENOTDIR' ? 'a file of this name is there' : 'the folder cannot be read',
      `${folder}: ${error.message}`,
    );
  });
}

/** Throws where a training run may not write into `folder`. Changes nothing: a run that fails before its first step leaves no trace. */
export async function checkRunFolder(folder: string, rules: OutputRules & { resume: boolean }): Promise<void> {
  const names = await namesIn(folder);
  if (!names.length || rules.resume) return;
  if (!rules.overwrite)
    throw new LowrankError(
      'output',
      'the folder is there and not empty',
      `${folder} (${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''})`,
      'Choose another --output, go on with --resume, or replace it with --overwrite',
    );
  checkInputs(folder, rules.inputs);
}

/** Makes the folder of a training run, or clears one that is to be replaced; an earlier run's that is gone on with stays as it is. */
export async function prepareRunFolder(folder: string, { resume }: { resume: boolean }): Promise<void> {
  try {
    if (!resume)
      for (const name of await namesIn(folder))
        if (written.test(name)) await rm(join(folder, name), { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw diskError(error, folder);
  }
}

/** Throws where {@link writeFolder} may not write a whole folder: only what lowrank wrote is replaced, and only where it is asked to. */
export async function checkOutputFolder(folder: string, { overwrite, inputs }: OutputRules): Promise<void> {
  const names = await namesIn(folder);
  if (!names.length) return;
  if (!overwrite)
    throw new LowrankError(
      'output',
      'the folder is there and not empty',
      folder,
      'Choose another --output, or replace it with --overwrite',
    );
  const strange = names.filter((name) => !written.test(name));
  if (strange.length)
    throw new LowrankError(
      'output',
      'the folder holds files of others',
      `${folder}: ${strange.slice(0, 3).join(', ')}`,
      'Choose another --output',
    );
  checkInputs(folder, inputs);
}

/**
 * Writes a whole folder under another name and renames it when it is complete: whenever the process ends, what bears the name is whole.
 * A folder that is there is replaced: {@link checkOutputFolder} says whether it may be. Ctrl-C takes the unfinished folder away.
 */
export async function writeFolder(folder: string, write: (work: string) => Promise<void>): Promise<void> {
  const target = resolve(folder);
  const beside = (end: string) => join(dirname(target), `.${basename(target)}.${process.pid}.${end}`);
  const [work, old] = [beside('new'), beside('old')];
  using _leaving = onLeave(() => rmSync(work, { recursive: true, force: true, maxRetries: 5 }));
  try {
    await mkdir(work, { recursive: true });
    await write(work);
    const handle = await open(work, 'r');
    await handle.sync().catch(() => {});
    await handle.close();
    const there = existsSync(target);
    if (there) await rename(target, old);
    await rename(work, target).catch(async (error) => {
      if (there) await rename(old, target);
      throw error;
    });
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

/** Puts a model's tokenizer and the like beside its weights: its own files, or those made of what a GGUF carries. */
export async function copyCompanions(files: ModelFiles, tokenizer: Tokenizer, folder: string): Promise<void> {
  if (files.gguf !== undefined) {
    for (const [name, text] of tokenizer.files()) await writeWhole(join(folder, name), text);
    return;
  }
  for (const name of companions) {
    const source = await files.open(name);
    if (!source) continue;
    await writeWhole(join(folder, name), await source.read(0, source.size));
    await source.close?.();
  }
}
