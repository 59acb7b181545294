import { readdir, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { fileSource, folderResolver } from '@lowrank/formats/node';
import { check, LowrankError } from '@lowrank/tensor';
import { chooseGguf, type ModelFiles } from '../files.ts';

/**
 * A model on disk: a Hugging Face folder, a folder with one GGUF file, or the path of a GGUF file. Throws a LowrankError where the path
 * is not there or holds neither.
 */
export async function folderFiles(path: string): Promise<ModelFiles> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const facts = cause.code === 'ENOENT' ? path : `${path}: ${cause.message}`;
    throw new LowrankError(
      'model',
      'the folder or file is not there',
      facts,
      'Give the path of a Hugging Face folder or of a .gguf file',
      { cause },
    );
  });
  if (found.isFile()) {
    check(
      path.toLowerCase().endsWith('.gguf'),
      'model',
      'a model file must be a GGUF file',
      path,
      `Name its folder instead: ${dirname(path)}`,
    );
    const gguf = basename(path);
    return { name: path, gguf, open: async (fileName) => (fileName === gguf ? fileSource(path) : undefined) };
  }
  const names = await readdir(path);
  const gguf = chooseGguf(names, path);
  check(
    gguf !== undefined || names.includes('config.json'),
    'model',
    'the folder holds no model',
    () => `${path}: neither config.json nor a .gguf file among ${names.length} names`,
  );
  return { name: path, gguf, open: folderResolver(path) };
}
