import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  bytesSource,
  type FileResolver,
  type FileSink,
  MemorySink,
  openCheckpoint,
  type SafetensorsDeclaration,
  saveCheckpoint,
  serializeSafetensors,
} from '../src/index.ts';
import { folderResolver, folderSinks } from '../src/node.ts';
import { collect, countingSource, formatError, temporaryFolder } from './support.ts';

const declared: SafetensorsDeclaration[] = ['b', 'a', 'd', 'c'].map((name, i) => ({
  name,
  dtype: 'F32',
  shape: [i + 1, 2],
}));
const dataOf = ({ name, shape }: { name: string; shape: readonly number[] }) =>
  new Float32Array(shape[0]! * shape[1]!).fill(name.charCodeAt(0));

/** Files in memory, and a resolver that remembers what was opened. */
async function saved(maxShardBytes?: number) {
  const sinks = new Map<string, MemorySink>();
  const open = async (name: string): Promise<FileSink> => {
    const sink = new MemorySink();
    sinks.set(name, sink);
    return sink;
  };
  const result = await saveCheckpoint(open, declared, dataOf, maxShardBytes === undefined ? {} : { maxShardBytes });
  const files = new Map<string, Uint8Array>([...sinks].map(([name, sink]) => [name, sink.bytes.slice()]));
  const opened: ReturnType<typeof countingSource>[] = [];
  const resolve: FileResolver = async (name) => {
    const bytes = files.get(name);
    if (bytes === undefined) return undefined;
    const source = countingSource(bytes, name);
    opened.push(source);
    return source;
  };
  return { result, files, opened, resolve };
}

describe('one file', () => {
  test('is written without an index and read as a checkpoint', async () => {
    const { result, resolve, opened } = await saved();
    expect(result).toEqual({ files: ['model.safetensors'], totalBytes: 80 });
    const checkpoint = await openCheckpoint(resolve);
    expect([...checkpoint.files]).toEqual(['a', 'b', 'c', 'd'].map((name) => [name, 'model.safetensors']));
    expect(await checkpoint.metadata()).toEqual({ format: 'pt' });
    expect(new Uint8Array(await checkpoint.read('d'))).toEqual(new Uint8Array(dataOf(declared[2]!).buffer));
    await checkpoint.close();
    expect(opened.map(({ closed }) => closed)).toEqual([1]);
  });
});

describe('shards', () => {
  test('are filled in order, named as Hugging Face names them, and opened when asked for', async () => {
    const { result, files, resolve, opened } = await saved(32);
    const shard = (i: number) => `model-0000${i}-of-00003.safetensors`;
    expect(result).toEqual({ files: [shard(1), shard(2), shard(3), 'model.safetensors.index.json'], totalBytes: 80 });
    expect(Buffer.from(files.get('model.safetensors.index.json')!).toString()).toBe(
      `${JSON.stringify({ metadata: { total_size: 80 }, weight_map: { a: shard(1), b: shard(1), c: shard(3), d: shard(2) } }, null, 2)}\n`,
    );
    await using checkpoint = await openCheckpoint(resolve);
    expect(opened.map(({ name, closed }) => [name, closed])).toEqual([['model.safetensors.index.json', 1]]);
    expect(checkpoint.has('c')).toBe(true);
    expect(checkpoint.has('x')).toBe(false);
    const [one, chunks] = await Promise.all([checkpoint.tensor('d'), collect(checkpoint.stream('d', 8))]);
    expect(one).toMatchObject({ name: 'd', dtype: 'F32', shape: [3, 2] });
    expect(chunks.map(({ length }) => length)).toEqual([8, 8, 8]);
    expect(opened.slice(1).map(({ name }) => name)).toEqual([shard(2)]);
    expect([...(await checkpoint.tensors()).keys()]).toEqual(['a', 'b', 'c', 'd']);
    expect(opened).toHaveLength(4);
    await checkpoint.close();
    expect(opened.every(({ closed }) => closed === 1)).toBe(true);
  });

  test('a missing shard is an error that names it; put in place, it is found', async () => {
    const { files, resolve } = await saved(32);
    const name = 'model-00002-of-00003.safetensors';
    const bytes = files.get(name)!;
    files.delete(name);
    const checkpoint = await openCheckpoint(resolve);
    await checkpoint.read('a');
    const error = await formatError(checkpoint.read('d'));
    expect(error.message).toContain(`every shard must be there: "${name}", which holds 1 tensors ("d" …), is missing`);
    files.set(name, bytes);
    expect((await checkpoint.read('d')).byteLength).toBe(24);
  });

  test('a tensor of the index that its shard lacks is an error, and the shard is closed', async () => {
    const { files, resolve, opened } = await saved(32);
    files.set(
      'model-00002-of-00003.safetensors',
      serializeSafetensors({ dd: { dtype: 'U8', shape: [], data: new Uint8Array(1) } }),
    );
    const checkpoint = await openCheckpoint(resolve);
    const error = await formatError(checkpoint.tensor('d'));
    expect(error.message).toContain('1 are missing, first "d" (model.safetensors.index.json)');
    expect(error.message).toContain('In the shard are "dd"');
    expect(error.file).toBe('model-00002-of-00003.safetensors');
    expect(opened.at(-1)!.closed).toBe(1);
  });

  test('a malformed shard names its own file', async () => {
    const { files, resolve } = await saved(32);
    files.set('model-00002-of-00003.safetensors', files.get('model-00002-of-00003.safetensors')!.slice(0, -1));
    const error = await formatError((await openCheckpoint(resolve)).read('d'));
    expect(error.file).toBe('model-00002-of-00003.safetensors');
    expect(error.message).toContain('cut short by 1 bytes');
  });

  test('a name that no shard has, and nothing at all', async () => {
    const { resolve } = await saved(32);
    expect((await formatError((await openCheckpoint(resolve)).read('aa'))).message).toContain('Nearest: "a"');
    const error = await formatError(openCheckpoint(async () => undefined));
    expect(error.message).toContain('neither model.safetensors nor model.safetensors.index.json was found');
    expect((await formatError(openCheckpoint(resolve, { stem: 'adapter_model' }))).file).toBe(
      'adapter_model.safetensors',
    );
  });
});

describe('a malformed index', () => {
  const index =
    (text: string | Uint8Array): FileResolver =>
    async (name) =>
      name.endsWith('.json')
        ? bytesSource(typeof text === 'string' ? new TextEncoder().encode(text) : text, name)
        : undefined;
  test.each([
    ['', /expected a value, found the end/, 0],
    ['[]', /must have a weight_map: there is none/, 0],
    ['{}', /must have a weight_map: there is none/, 0],
    ['{"weight_map":[]}', /weight_map: it is not an object/, 14],
    ['{"weight_map":{"a":1}}', /"a" maps to something else/, 19],
    ['{"weight_map":{"a":"x","a":"x"}}', /"a" appears twice/, 23],
    [`{"x":${'['.repeat(1e5)}`, /more than 32 levels/, 36],
    ['{"weight_map":{"a":""}}', /"a" maps to ""/, 19],
    ['{"weight_map":{"a":"../x"}}', /inside the folder: "a" maps to "..\/x"/, 19],
    ['{"weight_map":{"a":"/etc/passwd"}}', /inside the folder/, 19],
    ['{"weight_map":{"a":"C:x"}}', /inside the folder/, 19],
    ['{"weight_map":{"a":"x\\\\y"}}', /inside the folder/, 19],
    ['{"weight_map":{"a":"x\\u0000"}}', /inside the folder/, 19],
    ['{"weight_map":{"a":"a/./b"}}', /inside the folder/, 19],
  ])('%s', async (text, message, offset) => {
    const error = await formatError(openCheckpoint(index(text)));
    expect(error.message).toMatch(message);
    expect([error.file, error.offset]).toEqual(['model.safetensors.index.json', offset]);
  });

  test('the numbers and nesting of real ones are fine', async () => {
    const text = '{"metadata":{"total_size":1.5e9,"x":[{"y":null}]},"weight_map":{"a":"sub/x.safetensors"}}';
    expect([...(await openCheckpoint(index(text))).files]).toEqual([['a', 'sub/x.safetensors']]);
  });
});

describe('in a folder', () => {
  test('saved and opened; an error on the way leaves what was there', async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'out');
    await saveCheckpoint(
      folderSinks(path),
      declared,
      async function* (tensor) {
        for (const value of dataOf(tensor)) yield Float32Array.of(value);
      },
      { maxShardBytes: 40 },
    );
    const before = readdirSync(path).map((name) => [name, readFileSync(join(path, name), 'base64')]);
    expect(before).toHaveLength(4);
    await using checkpoint = await openCheckpoint(folderResolver(path));
    for (const tensor of declared)
      expect(new Uint8Array(await checkpoint.read(tensor.name))).toEqual(new Uint8Array(dataOf(tensor).buffer));
    const failing = saveCheckpoint(
      folderSinks(path),
      declared,
      (tensor) => {
        if (tensor.name === 'c') throw new Error('boom');
        return new Float32Array(dataOf(tensor).length);
      },
      { maxShardBytes: 40 },
    );
    await expect(failing).rejects.toThrow('boom');
    expect(readdirSync(path).map((name) => [name, readFileSync(join(path, name), 'base64')])).toEqual(before);
  });

  test('a file in place of the folder is an error, not a missing file', async () => {
    using folder = temporaryFolder();
    writeFileSync(join(folder.path, 'plain'), '');
    expect((await formatError(openCheckpoint(folderResolver(join(folder.path, 'plain'))))).message).toContain(
      'ENOTDIR',
    );
  });

  test('mistakes in what to save', async () => {
    const none = async (): Promise<FileSink> => expect.unreachable();
    expect((await formatError(saveCheckpoint(none, declared, dataOf, { maxShardBytes: 0 }))).message).toContain(
      'must be positive',
    );
    expect((await formatError(saveCheckpoint(none, [...declared, declared[0]!], dataOf))).message).toContain(
      '"b" is declared twice',
    );
  });
});
