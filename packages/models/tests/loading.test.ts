import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  bytesSource,
  openSafetensors,
  type SafetensorsDtype,
  saveCheckpoint,
  serializeSafetensors,
} from '@lowrank/formats';
import { folderSinks } from '@lowrank/formats/node';
import { BlockwiseWeight, fromBnbTensors, toBnbTensors } from '@lowrank/nf4';
import { Device, type LinearWeight, nullBackend } from '@lowrank/tensor';
import { afterAll, describe, expect, test } from 'vitest';
import { blobFiles, type LoadOptions, loadConfig, loadModel, loadTokenizer, type ModelFiles } from '../src/index.ts';
import { folderFiles } from '../src/node.ts';
import { familyFiles, fixtures, largestDifference, readJsonFile, readVectors, useDevice } from './helpers.ts';

const at = useDevice(1);
const folder = mkdtempSync(join(tmpdir(), 'lowrank-models-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Tensors = Record<string, { dtype: SafetensorsDtype; shape: readonly number[]; data: Uint8Array }>;

/** Every tensor of a family's file. */
async function tensorsOf(family: string): Promise<Tensors> {
  const file = await openSafetensors(
    bytesSource(new Uint8Array(readFileSync(join(fixtures, 'families', family, 'model.safetensors')))),
  );
  const out: Tensors = {};
  for (const { name, dtype, shape } of file.tensors.values())
    out[name] = { dtype, shape, data: (await file.read(name)).slice() };
  return out;
}

async function withTensors(family: string, change: (tensors: Tensors) => void): Promise<ModelFiles> {
  const tensors = await tensorsOf(family);
  change(tensors);
  return familyFiles(family, { 'model.safetensors': serializeSafetensors(tensors, { format: 'pt' }) });
}

async function logitsOf(files: ModelFiles, options: LoadOptions = {}): Promise<Float32Array> {
  using model = await loadModel(at.device, files, { computeDtype: 'f32', ...options });
  const { shape, data } = (await readVectors('families', 'llama', 'vectors.safetensors')).get('input_ids')!;
  using ids = at.device.tensor(data, { shape, dtype: 'i32' });
  using logits = model.forward(ids);
  return (await logits.toArray()) as Float32Array;
}

const recorded = async () => (await readVectors('families', 'llama', 'vectors.safetensors')).get('logits')!.data;

describe('where weights lie', () => {
  test('shards and their index, on disk', async () => {
    const tensors = await tensorsOf('llama');
    const path = join(folder, 'shards');
    const saved = await saveCheckpoint(
      folderSinks(path),
      Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
      ({ name }) => tensors[name]!.data,
      { maxShardBytes: 100_000 },
    );
    expect(saved.files.length).toBeGreaterThan(3);
    writeFileSync(join(path, 'config.json'), readFileSync(join(fixtures, 'families', 'llama', 'config.json')));
    expect(largestDifference(await logitsOf(await folderFiles(path)), await recorded())).toBeLessThanOrEqual(1e-4);
    rmSync(join(path, saved.files[1]!));
    await expect(logitsOf(await folderFiles(path))).rejects.toThrow(/every shard must be there/);
  });

  test('a browser’s folder picker: paths with folders, a file of the same name deeper down', async () => {
    const read = (file: string) => new Blob([readFileSync(join(fixtures, 'families', 'llama', file))]);
    const files = blobFiles([
      ['picked/original/config.json', new Blob(['{}'])],
      ['picked/config.json', read('config.json')],
      ['picked/model.safetensors', read('model.safetensors')],
    ]);
    expect(largestDifference(await logitsOf(files), await recorded())).toBeLessThanOrEqual(1e-4);
  });

  test('names without `model.`, as the decoder alone is saved', async () => {
    const files = await withTensors('llama', (tensors) => {
      for (const name of Object.keys(tensors)) {
        tensors[name.replace(/^model\./, '')] = tensors[name]!;
        if (name.startsWith('model.')) delete tensors[name];
      }
    });
    expect(largestDifference(await logitsOf(files), await recorded())).toBeLessThanOrEqual(1e-4);
  });

  test('a folder or file that is not there, or holds no model', async () => {
    await expect(folderFiles(join(folder, 'nowhere'))).rejects.toThrow(/not there: .*nowhere\. Give the path/);
    const empty = mkdtempSync(join(folder, 'empty-'));
    await expect(folderFiles(empty)).rejects.toThrow(/holds no model: .*neither config\.json nor a \.gguf/);
    writeFileSync(join(empty, 'a.gguf'), '');
    expect((await folderFiles(empty)).gguf).toBe('a.gguf');
    writeFileSync(join(empty, 'b.GGUF'), '');
    await expect(folderFiles(empty)).rejects.toThrow(/several GGUF files.*a\.gguf, b\.GGUF/);
    writeFileSync(join(empty, 'x.bin'), '');
    await expect(folderFiles(join(empty, 'x.bin'))).rejects.toThrow(/must be a GGUF file/);
  });
});

describe('options', () => {
  test('weights stay as stored, or become what weightDtype says', async () => {
    for (const [weightDtype, want] of [
      [undefined, 'f32'],
      ['bf16', 'bf16'],
      ['f16', 'f16'],
    ] as const) {
      using model = await loadModel(at.device, familyFiles('llama'), weightDtype ? { weightDtype } : {});
      expect(new Set([...model.namedParameters()].map(([, t]) => t.dtype))).toEqual(new Set([want]));
      expect(at.device.memory().liveByClass.weights).toBe(at.device.memory().live);
    }
  });

  test('quantize sees every linear layer of the decoder once, with its values, and nothing else', async () => {
    const tensors = await tensorsOf('llama');
    const seen: string[] = [];
    const made: LinearWeight[] = [];
    using model = await loadModel(at.device, familyFiles('llama'), {
      quantize: async (name, values) => {
        seen.push(name);
        expect(new Uint8Array(((await values.toArray()) as Float32Array).slice().buffer)).toEqual(tensors[name]!.data);
        made.push(await BlockwiseWeight.quantize(values, { quantType: 'nf4' }));
        return made.at(-1)!;
      },
    });
    expect(seen).toEqual(
      Object.keys(tensors)
        .filter((n) => n.includes('_proj.weight'))
        .sort((a, b) => seen.indexOf(a) - seen.indexOf(b)),
    );
    expect(seen).toHaveLength(14);
    expect(model.lmHead.weight.format).toBe('dense');
    expect(model.at('model.layers.1.mlp.down_proj')).toMatchObject({ weight: made.at(-1) });
    expect(at.device.memory().liveByClass.workspace).toBe(0);
  });

  test('progress ends at the whole; an abort frees everything', async () => {
    const steps: number[] = [];
    let total = 0;
    const model = await loadModel(at.device, familyFiles('smollm2'), {
      onProgress: ({ bytes, totalBytes }) => {
        steps.push(bytes);
        total = totalBytes;
      },
    });
    model.dispose();
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect(steps.at(-1)).toBe(total);
    const stop = new AbortController();
    const reason = new Error('enough');
    const cut = loadModel(at.device, familyFiles('smollm2'), {
      signal: stop.signal,
      onProgress: ({ bytes }) => bytes > total / 2 && stop.abort(reason),
    });
    await expect(cut).rejects.toBe(reason);
  });

  test('dtypes that the backend cannot do are refused with those it can', async () => {
    const like = nullBackend();
    const caps = {
      ...like.caps,
      device: 'a phone',
      dtypes: { ...like.caps.dtypes, bf16: { store: false, compute: false, fastMatmul: false } },
    };
    await using device = new Device(nullBackend({ ...like, caps }));
    await expect(loadModel(device, familyFiles('llama'), { weightDtype: 'bf16' })).rejects.toThrow(
      /cannot store weightDtype: bf16 on a phone\. It stores f32, f16/,
    );
    await expect(loadModel(device, familyFiles('llama'), { computeDtype: 'bf16' })).rejects.toThrow(
      /cannot compute in computeDtype: bf16 on a phone/,
    );
    const narrow = await withTensors('llama', (tensors) => {
      for (const t of Object.values(tensors))
        Object.assign(t, { dtype: 'BF16', data: t.data.slice(0, t.data.length / 2) });
    });
    using model = await loadModel(device, narrow);
    expect(new Set([...model.namedParameters()].map(([, t]) => t.dtype))).toEqual(new Set(['f32']));
  });
});

describe('4-bit checkpoints of bitsandbytes', () => {
  /** The family with its projections quantized, as transformers saves it, and the weights that went in. */
  async function quantized(doubleQuant: boolean) {
    const weights = new Map<string, Float32Array>();
    const files = await (async () => {
      const tensors = await tensorsOf('llama');
      for (const [name, { shape, data }] of Object.entries(tensors)) {
        if (!name.includes('_proj.weight')) continue;
        using values = at.device.tensor(new Float32Array(data.buffer), { shape });
        using weight = await BlockwiseWeight.quantize(values, { doubleQuant });
        using dense = weight.dequantize('f32');
        weights.set(name, (await dense.toArray()) as Float32Array);
        delete tensors[name];
        Object.assign(tensors, Object.fromEntries(await toBnbTensors(name, weight)));
      }
      const config = {
        ...readJsonFile('families', 'llama', 'config.json'),
        quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true },
      };
      return familyFiles('llama', {
        'config.json': JSON.stringify(config),
        'model.safetensors': serializeSafetensors(tensors, { format: 'pt' }),
      });
    })();
    return { files, weights };
  }
  const blockwise: LoadOptions['blockwise'] = (name, names, read) => fromBnbTensors(at.device, name, names, read);

  test.each([true, false])('are read part by part, double quantization %s', async (doubleQuant) => {
    const { files, weights } = await quantized(doubleQuant);
    expect((await loadConfig(files)).quantization).toBe('bitsandbytes');
    using model = await loadModel(at.device, files, {
      blockwise,
      quantize: () => Promise.reject(new Error('quantized already')),
    });
    for (const [name, want] of weights) {
      const { weight } = model.at(name.replace(/\.weight$/, '')) as unknown as { weight: LinearWeight };
      expect(weight.format).toBe('nf4');
      using dense = weight.dequantize('f32');
      expect(await dense.toArray(), name).toEqual(want);
    }
    expect(at.device.memory().liveByClass.weights).toBe(at.device.memory().live);
  });

  test('give the logits of their values', async () => {
    const { files, weights } = await quantized(true);
    const dense = await withTensors('llama', (tensors) => {
      for (const [name, data] of weights)
        tensors[name] = { ...tensors[name]!, data: new Uint8Array(data.slice().buffer) };
    });
    expect(largestDifference(await logitsOf(files, { blockwise }), await logitsOf(dense))).toBeLessThanOrEqual(1e-4);
  });

  test('need a reader; other kinds of quantization are named', async () => {
    const { files } = await quantized(true);
    await expect(loadModel(at.device, files)).rejects.toThrow(
      /4-bit checkpoint needs a reader.*fromBnbTensors of @lowrank\/nf4/,
    );
    const awq = familyFiles('llama', {
      'config.json': JSON.stringify({
        ...readJsonFile('families', 'llama', 'config.json'),
        quantization_config: { quant_method: 'awq' },
      }),
    });
    await expect(loadModel(at.device, awq, { blockwise })).rejects.toThrow(
      /unknown quantization of a checkpoint: llama: quant_method awq/,
    );
  });
});

describe('errors leave nothing behind', () => {
  test('a missing tensor, with the nearest names', async () => {
    const files = await withTensors('llama', (t) => {
      delete t['model.layers.1.mlp.up_proj.weight'];
    });
    await expect(loadModel(at.device, files)).rejects.toThrow(
      /no "model\.layers\.1\.mlp\.up_proj\.weight" among 20 tensors.*Nearest: "model\.layers\.0\.mlp\.up_proj\.weight"/,
    );
  });

  test('a wrong shape', async () => {
    const files = await withTensors('llama', (t) =>
      Object.assign(t['model.norm.weight']!, { shape: [32], data: new Uint8Array(128) }),
    );
    await expect(loadModel(at.device, files)).rejects.toThrow(
      /wrong shape: model\.norm\.weight of llama: \[32\], the configuration asks for \[64\]/,
    );
  });

  test('a dtype that holds no floats', async () => {
    const files = await withTensors('llama', (t) =>
      Object.assign(t['model.norm.weight']!, { dtype: 'I64', data: new Uint8Array(512) }),
    );
    await expect(loadModel(at.device, files)).rejects.toThrow(/no float dtype: model\.norm\.weight of llama is I64/);
  });

  test('a tensor that nothing reads, unless allowed', async () => {
    const files = await withTensors('llama', (t) => {
      t['model.layers.0.self_attn.q_proj.bias'] = { dtype: 'F32', shape: [64], data: new Uint8Array(256) };
      t['model.layers.0.self_attn.rotary_emb.inv_freq'] = { dtype: 'F32', shape: [8], data: new Uint8Array(32) };
    });
    await expect(loadModel(at.device, files)).rejects.toThrow(
      /does not use: llama: 1, first model\.layers\.0\.self_attn\.q_proj\.bias/,
    );
    (await loadModel(at.device, files, { allowUnused: true })).dispose();
  });

  test('a file that is cut short', async () => {
    const whole = new Uint8Array(readFileSync(join(fixtures, 'families', 'llama', 'model.safetensors')));
    await expect(
      loadModel(at.device, familyFiles('llama', { 'model.safetensors': whole.subarray(0, whole.length - 100) })),
    ).rejects.toThrow(/model\.safetensors/);
  });

  test('no weights, no configuration, no tokenizer', async () => {
    await expect(loadModel(at.device, familyFiles('llama', { 'model.safetensors': undefined }))).rejects.toThrow(
      /neither model\.safetensors nor model\.safetensors\.index\.json/,
    );
    await expect(loadModel(at.device, familyFiles('llama', { 'config.json': undefined }))).rejects.toThrow(
      /config\.json is not there: llama/,
    );
    await expect(loadTokenizer(familyFiles('llama'))).rejects.toThrow(
      /tokenizer\.json is not there: llama.*save_pretrained/,
    );
  });

  test('quantize that fails half way', async () => {
    let count = 0;
    const quantize: LoadOptions['quantize'] = async (_, values) => {
      if (++count === 9) throw new Error('no room');
      return BlockwiseWeight.quantize(values);
    };
    await expect(loadModel(at.device, familyFiles('llama'), { quantize })).rejects.toThrow('no room');
  });
});
