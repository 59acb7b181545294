import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuBackend } from '@lowrank/backend-cpu';
import { bytesSource, openSafetensors } from '@lowrank/formats';
import { folderSinks } from '@lowrank/formats/node';
import { LoraModel } from '@lowrank/lora';
import { loadAdapterFolder } from '@lowrank/lora/node';
import { CausalLm, loadModel, readConfig } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { BlockwiseWeight, fromBnbTensors, toBnbTensors } from '@lowrank/nf4';
import { DenseWeight, Device, keep, noGrad, scope, type Tensor } from '@lowrank/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { mergeAdapter, saveModel } from '../src/index.ts';

const fixtures = join(import.meta.dirname, '../../../fixtures');
let device: Device;
beforeAll(async () => {
  device = new Device(await cpuBackend());
});
afterEach(() => expect(device.memory().live, 'leaked bytes').toBe(0));
afterAll(() => device.close());

async function family(name: string, quantize = false): Promise<CausalLm> {
  const dir = join(fixtures, 'families', name);
  const file = await openSafetensors(bytesSource(new Uint8Array(readFileSync(join(dir, 'model.safetensors'))), name));
  const read = async (n: string): Promise<Tensor> =>
    keep(device.fromBytes(await file.read(n), 'f32', file.tensors.get(n)!.shape));
  return CausalLm.create(device, readConfig(JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'))), {
    tensor: read,
    linear: async (n) => {
      const dense = await read(n);
      if (!quantize) return new DenseWeight(dense);
      const weight = await BlockwiseWeight.quantize(dense);
      dense.dispose();
      return weight;
    },
  });
}

async function logits(model: CausalLm): Promise<Float32Array> {
  const ids = keep(device.tensor([[1, 5, 9, 2, 77, 31]], { dtype: 'i32' }));
  const y = keep(noGrad(() => scope(() => model.forward(ids))));
  const out = (await y.toArray()) as Float32Array;
  ids.dispose();
  y.dispose();
  return out.slice();
}

function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let diff = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    diff += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(diff / Math.max(norm, 1e-30));
}

describe('merging into dense weights', () => {
  test.each(['lora', 'rslora', 'patterns', 'embedding', 'modules-to-save', 'bias-all', 'tied-qwen3'])(
    '%s: the merged model is the adapted one, and unmerging gives the old bits back',
    async (name) => {
      const run = JSON.parse(readFileSync(join(fixtures, 'peft-tiny', name, 'run.json'), 'utf8'));
      const model = await family(run.base.replace('families/', ''));
      const lora = new LoraModel(model, device);
      const base = await logits(model);
      await loadAdapterFolder(lora, join(fixtures, 'peft-tiny', run.adapter));
      const adapted = await logits(model);
      expect(relative(adapted, base)).toBeGreaterThan(1e-3);
      const report = await mergeAdapter(lora, { keepOriginals: true, safe: true });
      expect(relative(await logits(model), adapted)).toBeLessThan(1e-5);
      expect(report.weights.length).toBe(lora.adapters.get('default')!.pairs.size);
      for (const w of report.weights) expect(w.relativeError).toBeLessThan(1e-6);
      await report.unmerge();
      expect(await logits(model)).toEqual(adapted);
      lora.disableAdapters();
      expect(await logits(model)).toEqual(base);
      lora.enableAdapters();
      const again = await mergeAdapter(lora); // for good this time
      lora.dispose();
      expect(relative(await logits(model), adapted)).toBeLessThan(1e-5);
      again.dispose();
      report.dispose();
      model.dispose();
    },
  );

  test('without originals unmerging subtracts, up to rounding', async () => {
    const model = await family('llama');
    const lora = new LoraModel(model, device);
    lora.addAdapter('a', { targetModules: 'all-linear', initLoraWeights: false });
    const adapted = await logits(model);
    const report = await mergeAdapter(lora);
    await report.unmerge();
    expect(relative(await logits(model), adapted)).toBeLessThan(1e-5);
    lora.dispose();
    model.dispose();
  });

  test('an adapter merges once and unmerges once, and others stay as they are', async () => {
    const model = await family('llama');
    const lora = new LoraModel(model, device);
    const base = await logits(model);
    const options = { targetModules: ['q_proj', 'o_proj'], initLoraWeights: false } as const;
    lora.addAdapter('a', options, { seed: 1 });
    lora.addAdapter('b', options, { seed: 2 });
    lora.setAdapter(['a', 'b']);
    const both = await logits(model);
    const a = await mergeAdapter(lora, { adapters: ['a', 'a'], keepOriginals: true });
    expect(relative(await logits(model), both)).toBeLessThan(1e-5);
    await expect(mergeAdapter(lora, { adapters: ['a'] })).rejects.toThrow('the adapter is merged already: a');
    expect(() => lora.setAdapter('a')).toThrow('an adapter is merged already: a');
    const b = await mergeAdapter(lora, { adapters: ['b'], keepOriginals: true });
    await expect(a.unmerge()).rejects.toThrow('another merge came after');
    expect(relative(await logits(model), both)).toBeLessThan(1e-5);
    await b.unmerge();
    await expect(b.unmerge()).rejects.toThrow('the adapter is not merged: b');
    await a.unmerge();
    expect(lora.active).toEqual(['b', 'a']);
    expect(relative(await logits(model), both)).toBeLessThan(1e-5);
    lora.disableAdapters();
    expect(await logits(model)).toEqual(base);
    for (const report of [a, b]) report.dispose();
    lora.dispose();
    model.dispose();
  });

  test('a weight that an adapter trains whole is not merged into by another', async () => {
    const model = await family('llama');
    const lora = new LoraModel(model, device);
    lora.addAdapter('whole', { targetModules: ['q_proj'], modulesToSave: ['lm_head'] });
    lora.addAdapter('low', { targetModules: ['lm_head'] });
    await expect(mergeAdapter(lora, { adapters: ['low'] })).rejects.toThrow(
      'a weight is trained whole by another adapter: lm_head, whole',
    );
    const merged = await mergeAdapter(lora, { adapters: ['whole'] });
    lora.deleteAdapter('whole');
    lora.setAdapter('low');
    await mergeAdapter(lora);
    merged.dispose();
    lora.dispose();
    model.dispose();
  });

  test('safe merging refuses what is not finite and leaves the model alone', async () => {
    const model = await family('llama');
    const lora = new LoraModel(model, device);
    const { pairs } = lora.addAdapter('a', { targetModules: ['q_proj'], initLoraWeights: false });
    const before = await logits(model);
    const { b } = pairs.get('model.layers.1.self_attn.q_proj')!;
    const good = await b.bytes();
    device.write(b, new Float32Array(b.size).fill(Number.NaN));
    await expect(mergeAdapter(lora, { safe: true })).rejects.toThrow(
      'the merged weight is not finite: model.layers.1.self_attn.q_proj',
    );
    device.write(b, good);
    expect(await logits(model)).toEqual(before);
    await expect(mergeAdapter(lora, { adapters: ['b'] })).rejects.toThrow('no such adapter: b. There: a');
    lora.dispose();
    model.dispose();
  });
});

describe('merging into NF4', () => {
  test('the report says what quantizing the sum again costs; a dense result costs nothing', async () => {
    const model = await family('llama', true);
    const lora = new LoraModel(model, device);
    lora.addAdapter('a', { r: 4, loraAlpha: 4, targetModules: 'all-linear', initLoraWeights: false });
    const adapted = await logits(model);
    const four = await mergeAdapter(lora, { keepOriginals: true });
    expect(four.worst!.format).toBe('nf4');
    expect(four.worst!.relativeError).toBeGreaterThan(0.01);
    expect(four.worst!.relativeError).toBeLessThan(0.3);
    await four.unmerge();
    expect(await logits(model)).toEqual(adapted);
    const dense = await mergeAdapter(lora, { dense: 'f32' });
    expect(dense.worst!.relativeError).toBeLessThan(1e-6);
    expect(relative(await logits(model), adapted)).toBeLessThan(1e-5);
    for (const r of [four, dense]) r.dispose();
    lora.dispose();
    model.dispose();
  });
});

describe('saving', () => {
  test('a merged model is read back the same, in each dtype; shards too', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'lowrank-merge-'));
    const model = await family('smollm2');
    const lora = new LoraModel(model, device);
    lora.addAdapter('a', { targetModules: 'all-linear', initLoraWeights: false });
    const config = JSON.parse(readFileSync(join(fixtures, 'families/smollm2/config.json'), 'utf8'));
    await expect(saveModel(model, folderSinks(join(dir, 'no')), { config })).rejects.toThrow(
      'an adapter is still attached',
    );
    const report = await mergeAdapter(lora);
    const want = await logits(model);
    for (const [dtype, tolerance] of [
      ['f32', 0],
      ['bf16', 0.05],
      ['f16', 0.01],
    ] as const) {
      const folder = join(dir, dtype);
      await saveModel(model, folderSinks(folder), {
        config,
        dtype,
        ...(dtype === 'f16' ? { maxShardBytes: 40_000 } : {}),
      });
      const again = await loadModel(device, await folderFiles(folder), { computeDtype: 'f32' });
      const got = await logits(again);
      if (tolerance === 0) expect(got).toEqual(want);
      else expect(relative(got, want)).toBeLessThan(tolerance);
      again.dispose();
      const saved = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
      expect(saved.tie_word_embeddings).toBe(true);
    }
    report.dispose();
    lora.dispose();
    model.dispose();
    await rm(dir, { recursive: true });
  });

  test('a 4-bit model is stored as bitsandbytes stores it', async () => {
    const model = await family('llama', true);
    const want = await logits(model);
    const config = JSON.parse(readFileSync(join(fixtures, 'families/llama/config.json'), 'utf8'));
    const dir = await mkdtemp(join(tmpdir(), 'lowrank-merge-'));
    await saveModel(model, folderSinks(dir), {
      config,
      dtype: 'f32',
      quantized: (name, w) => toBnbTensors(name, w as BlockwiseWeight, 'f32'),
    });
    const saved = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'));
    expect(saved.quantization_config).toMatchObject({
      quant_method: 'bitsandbytes',
      load_in_4bit: true,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
    });
    const again = await loadModel(device, await folderFiles(dir), {
      computeDtype: 'f32',
      blockwise: (name, names, read) => fromBnbTensors(device, name, names, read),
    });
    expect(await logits(again)).toEqual(want);
    again.dispose();
    model.dispose();
    await rm(dir, { recursive: true });
  });
});
