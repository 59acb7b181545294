/** Files of the world, and the world's readers of ours. Needs the shared folder; skips with a reason where it is missing. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { modelsDir, need, pythonPath } from '../../../scripts/testing/shared.ts';
import {
  type GgufDeclaration,
  type GgufValue,
  GgufWriter,
  openCheckpoint,
  openGguf,
  saveCheckpoint,
} from '../src/index.ts';
import { AtomicFileWriter, fileSource, folderResolver, folderSinks } from '../src/node.ts';
import { jsonFixture, sha256, temporaryFolder } from './support.ts';

interface Record {
  gguf: { [name: string]: { type: string; shape: number[]; f32: string } };
  safetensors: { [name: string]: { shape: number[]; sha256: string } };
  bnb: { [name: string]: { shape: number[]; sha256: string } };
}

const record = jsonFixture<Record>('smollm2.json');

describe('SmolLM2-135M-Instruct', () => {
  test('the GGUF: header, and tensors as the gguf package dequantizes them', async (context) => {
    const path = join(need(context, modelsDir()), 'SmolLM2-135M-Instruct.Q4_1.gguf');
    await using file = await openGguf(await fileSource(path));
    expect(file.tensors.size).toBe(272);
    expect(file.string('general.architecture')).toBe('llama');
    expect(file.number('llama.block_count')).toBe(30);
    expect(file.strings('tokenizer.ggml.tokens')).toHaveLength(file.number('llama.vocab_size'));
    for (const [name, { type, shape, f32 }] of Object.entries(record.gguf)) {
      expect(file.tensor(name)).toMatchObject({ type, shape });
      expect(sha256(await file.readF32(name))).toBe(f32);
    }
  });

  test.for([
    ['SmolLM2-135M-Instruct', 'safetensors'],
    ['SmolLM2-135M-Instruct-bnb-4bit', 'bnb'],
  ] as const)('the folder %s: tensors byte for byte', async ([folder, key], context) => {
    const path = join(need(context, modelsDir()), folder);
    await using checkpoint = await openCheckpoint(folderResolver(path));
    expect(await checkpoint.metadata()).toEqual({ format: 'pt' });
    for (const [name, { shape, sha256: want }] of Object.entries(record[key])) {
      expect((await checkpoint.tensor(name)).shape).toEqual(shape);
      expect(sha256(await checkpoint.read(name))).toBe(want);
    }
  });
});

/** Runs a program of Python and gives what it printed as JSON. */
async function python(interpreter: string, program: string, ...args: string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(interpreter, ['-c', program, ...args], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout);
}

describe('the Python libraries read what we write', () => {
  const values = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.7) * 3);

  test('gguf: values and metadata', { timeout: 120_000 }, async (context) => {
    const interpreter = need(context, pythonPath());
    using folder = temporaryFolder();
    const path = join(folder.path, 'ours.gguf');
    const declared: GgufDeclaration[] = [
      { name: 'a.weight', type: 'F32', shape: [3, 5] },
      { name: 'b.weight', type: 'F16', shape: [4, 3] },
      { name: 'c.weight', type: 'BF16', shape: [2, 3, 2] },
      { name: 'd.weight', type: 'Q8_0', shape: [5, 64] },
    ];
    const metadata = new Map<string, GgufValue>([
      ['general.architecture', { type: 'string', value: 'llama' }],
      ['llama.block_count', { type: 'uint32', value: 30 }],
      ['llama.rope.freq_base', { type: 'float32', value: 100_000 }],
      ['tokenizer.ggml.tokens', { type: 'array', itemType: 'string', value: ['a', 'é', ''] }],
      ['tokenizer.ggml.scores', { type: 'array', itemType: 'float32', value: Float32Array.of(0.5, -1, 2) }],
      ['flag', { type: 'bool', value: true }],
      ['big', { type: 'uint64', value: 2n ** 52n }],
    ]);
    await using output = await AtomicFileWriter.create(path);
    const writer = new GgufWriter(output, declared, metadata);
    for (const { name, elements } of writer.tensors) await writer.write(name, values(elements));
    await writer.finish();
    await output.commit();
    const program = `
import sys, json, hashlib, gguf, numpy as np
r = gguf.GGUFReader(sys.argv[1])
f = lambda t: gguf.dequantize(t.data, t.tensor_type).astype(np.float32)
print(json.dumps({
  "fields": {k: v.contents() for k, v in r.fields.items() if not k.startswith("GGUF.")},
  "tensors": [[t.name, t.tensor_type.name, [int(n) for n in reversed(t.shape)], hashlib.sha256(f(t).tobytes()).hexdigest()] for t in r.tensors]}))`;
    const file = await openGguf(await fileSource(path));
    const tensors = await Promise.all(
      declared.map(async ({ name, type, shape }) => [name, type, shape, sha256(await file.readF32(name))]),
    );
    await file.close();
    expect(await python(interpreter, program, path)).toEqual({
      fields: {
        'general.architecture': 'llama',
        'llama.block_count': 30,
        'llama.rope.freq_base': 100_000,
        'tokenizer.ggml.tokens': ['a', 'é', ''],
        'tokenizer.ggml.scores': [0.5, -1, 2],
        flag: true,
        big: 2 ** 52,
      },
      tensors,
    });
  });

  test('safetensors: a sharded checkpoint', { timeout: 120_000 }, async (context) => {
    const interpreter = need(context, pythonPath());
    using folder = temporaryFolder();
    const declared = ['x', 'y', 'z'].map((name, i) => ({ name, dtype: 'F32' as const, shape: [10, i + 1] }));
    const data = ({ shape }: { shape: readonly number[] }) => values(shape[0]! * shape[1]!);
    await saveCheckpoint(folderSinks(folder.path), declared, data, { maxShardBytes: 100 });
    const program = `
import sys, json, hashlib, safetensors
folder = sys.argv[1]
index = json.load(open(folder + "/model.safetensors.index.json"))
out = {}
for name, file in index["weight_map"].items():
    with safetensors.safe_open(folder + "/" + file, "np") as f:
        t = f.get_tensor(name)
        out[name] = [file, f.metadata(), str(t.dtype), list(t.shape), hashlib.sha256(t.tobytes()).hexdigest()]
print(json.dumps([index["metadata"], out]))`;
    const want = declared.map((tensor, i) => [
      tensor.name,
      [`model-0000${i + 1}-of-00003.safetensors`, { format: 'pt' }, 'float32', tensor.shape, sha256(data(tensor))],
    ]);
    expect(await python(interpreter, program, folder.path)).toEqual([{ total_size: 240 }, Object.fromEntries(want)]);
  });
});
