import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTokenizer, type ModelFiles } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { expect, test } from 'vitest';
import { copyCompanions, writeFolder } from '../src/run/output.ts';
import { bundled, start, temporary } from './cli.ts';

const folder = temporary();

test('a folder is replaced whole, and stays where writing fails', async () => {
  const out = join(folder, 'replaced');
  mkdirSync(out);
  writeFileSync(join(out, 'config.json'), 'old');
  const failing = writeFolder(out, async (work) => {
    writeFileSync(join(work, 'config.json'), 'half');
    throw new Error('no more');
  });
  await expect(failing).rejects.toThrow('no more');
  expect(readFileSync(join(out, 'config.json'), 'utf8')).toBe('old');
  await writeFolder(out, async (work) => writeFileSync(join(work, 'config.json'), 'new'));
  expect(readFileSync(join(out, 'config.json'), 'utf8')).toBe('new');
  expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('Ctrl-C while a model is written leaves nothing behind', async () => {
  const out = join(folder, 'stopped');
  const started = () => readdirSync(folder).some((name) => name.startsWith('.stopped.'));
  const child = start(['quantize', '--model', 'bundled', '--output', out, '--backend', 'cpu', '--threads', '1']);
  let finished = false;
  void child.done.then(() => {
    finished = true;
  });
  while (!started() && !finished) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGINT');
  const { code } = await child.done;
  expect(started()).toBe(false);
  // on a fast machine it may have been done
  expect([0, 130]).toContain(code);
  expect(existsSync(out)).toBe(code === 0);
});

test('a model that came from a GGUF is saved with its tokenizer', async () => {
  const files = await folderFiles(join(bundled, 'model'));
  const tokenizer = await loadTokenizer(files);
  const gguf: ModelFiles = { ...files, gguf: 'model.gguf' };
  const out = join(folder, 'from-gguf');
  mkdirSync(out);
  await copyCompanions(gguf, tokenizer, out);
  expect(readdirSync(out)).toEqual(expect.arrayContaining(['tokenizer.json', 'tokenizer_config.json']));
  const again = await loadTokenizer({ ...files, open: (await folderFilesOf(out)).open });
  const text = 'Wake me at 6 am.\n';
  expect(again.encode(text)).toEqual(tokenizer.encode(text));
  const chat = [{ role: 'user', content: text }];
  expect(again.encodeChat(chat)).toEqual(tokenizer.encodeChat(chat));
});

/** A folder's files, with the bundled model's configuration in it. */
async function folderFilesOf(path: string): Promise<ModelFiles> {
  writeFileSync(join(path, 'config.json'), readFileSync(join(bundled, 'model/config.json')));
  return folderFiles(path);
}
