import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, keep, noGrad, scope } from '@lowrank/tensor';
import { Dataset, Trainer } from '@lowrank/trainer';
import { describe, expect, test } from 'vitest';
import {
  adapterFiles,
  fromPeftJson,
  LoraModel,
  loadAdapter,
  peftTensors,
  resolveConfig,
  saveAdapter,
} from '../src/index.ts';
import { loadAdapterFolder, saveAdapterFolder } from '../src/node.ts';
import { fixtures, loadFamily, openTensors, recorded, relative, useDevice } from './support.ts';

const at = useDevice();

interface Run {
  base: string;
  adapter: string;
  steps: number;
  lr: number;
  weightDecay: number;
  losses: number[];
  trainable: number;
}

const folders = [
  'lora',
  'rslora',
  'patterns',
  'embedding',
  'modules-to-save',
  'bias-all',
  'bias-lora-only',
  'regex-layers',
  'layers-to-transform',
  'tied-qwen3',
];

/** Recorded batches; labels are those of the same place, as transformers takes them. */
async function batches(count: number) {
  const file = await openTensors(join(fixtures, 'peft-tiny/batches.safetensors'));
  const read = async (name: string) => decode(new Uint8Array(await file.read(name)), 'i32') as Int32Array;
  const [ids, labels] = [await read('input_ids'), await read('labels')];
  const [, rows, length] = file.tensors.get('input_ids')!.shape as [number, number, number];
  const samples = Array.from({ length: count * rows }, (_, i) => ({
    ids: ids.slice(i * length, (i + 1) * length),
    labels: labels.slice(i * length, (i + 1) * length),
    where: `row ${i}`,
  }));
  return { data: new Dataset(samples, { padTokenId: 0 }), ids, rows, length };
}

describe.each(folders)('what PEFT saved and trained: %s', (name) => {
  const dir = join(fixtures, 'peft-tiny', name);
  const run = JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')) as Run;

  test('loads: trainable numbers and logits are those of PEFT', async () => {
    const { device } = at;
    const model = await loadFamily(device, run.base);
    const lora = new LoraModel(model, device);
    await loadAdapterFolder(lora, join(fixtures, 'peft-tiny', run.adapter));
    expect(lora.counts().trainable).toBe(run.trainable);
    const want = await (await recorded(join(dir, 'run.safetensors'))).f32('logits');
    const { ids, rows, length } = await batches(1);
    const input = keep(device.tensor(ids.slice(0, rows * length), { shape: [rows, length] }));
    const logits = keep(noGrad(() => scope(() => model.forward(input))));
    expect(relative((await logits.toArray()) as Float32Array, want)).toBeLessThan(1e-5);
    for (const t of [input, logits]) t.dispose();
    lora.dispose();
    model.dispose();
  });

  test('trains: losses and final weights are those of PEFT', async () => {
    const { device } = at;
    const model = await loadFamily(device, run.base);
    const lora = new LoraModel(model, device);
    const adapter = await loadAdapterFolder(lora, join(fixtures, 'peft-tiny', run.adapter));
    const { data, rows } = await batches(run.steps);
    const losses: number[] = [];
    const trainer = new Trainer({
      device,
      model: {
        parameters: () => lora.trainableParameters(),
        hidden: (i, input) => model.hidden(i, input),
        head: (r) => model.head(r),
        prepare: (n) => model.prepare(n),
      },
      data,
      batchSize: rows,
      maxSteps: run.steps,
      shuffle: false,
      learningRate: run.lr,
      lrScheduler: 'constant',
      weightDecay: run.weightDecay,
      onLog: ({ loss }) => void losses.push(loss),
    });
    await trainer.train();
    for (const [i, loss] of losses.entries())
      expect(Math.abs(loss - run.losses[i]!) / run.losses[i]!, `step ${i + 1}`).toBeLessThan(1e-4);
    expect(losses.length).toBe(run.losses.length);
    const want = await recorded(join(dir, 'run.safetensors'));
    let checked = 0;
    for (const [key, t] of peftTensors(lora, adapter)) {
      if (!want.has(`final.${key}`)) continue;
      expect(relative((await t.toArray()) as Float32Array, await want.f32(`final.${key}`)), key).toBeLessThan(1e-3);
      checked++;
    }
    expect(checked).toBeGreaterThan(0);
    trainer.dispose();
    lora.dispose();
    model.dispose();
  });
});

describe('folders', () => {
  test('what is saved loads to the same bytes, and an existing folder is not written over', async () => {
    const { device } = at;
    const dir = await mkdtemp(join(tmpdir(), 'lowrank-lora-'));
    const model = await loadFamily(device, 'families/llama');
    const lora = new LoraModel(model, device);
    lora.addAdapter(
      'default',
      {
        r: 4,
        loraAlpha: 8,
        targetModules: ['q_proj', 'down_proj'],
        rankPattern: { q_proj: 2 },
        useRslora: true,
        initLoraWeights: false,
      },
      { seed: 7 },
    );
    await saveAdapterFolder(lora, 'default', join(dir, 'a'));
    await loadAdapterFolder(lora, join(dir, 'a'), { name: 'again' });
    const [first, second] = [await saveAdapter(lora, 'default'), await saveAdapter(lora, 'again')];
    for (const [file, bytes] of first) expect(second.get(file), file).toEqual(bytes);
    await expect(saveAdapterFolder(lora, 'default', join(dir, 'a'))).rejects.toThrow(
      'the folder is there and not empty',
    );
    lora.dispose();
    model.dispose();
    await rm(dir, { recursive: true });
  });

  test('PEFT takes no layers_to_transform beside all-linear: modules are listed instead', async () => {
    const { device } = at;
    const model = await loadFamily(device, 'families/llama');
    const lora = new LoraModel(model, device);
    lora.addAdapter('default', { targetModules: 'all-linear', excludeModules: ['q_proj'], layersToTransform: [1] });
    const files = await saveAdapter(lora, 'default');
    const json = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')));
    expect(json.layers_to_transform).toBeNull();
    expect(json.target_modules).toEqual([...lora.adapters.get('default')!.pairs.keys()]);
    const again = await loadAdapter(lora, adapterFiles(files), { name: 'again' });
    expect([...again.pairs.keys()]).toEqual(json.target_modules);
    lora.dispose();
    model.dispose();
  });

  test('a configuration of PEFT may name what is not there: its weights say what it adapts', async () => {
    const { device } = at;
    const model = await loadFamily(device, 'families/llama');
    const lora = new LoraModel(model, device);
    const dir = join(fixtures, 'peft-tiny/lora/adapter');
    const files = new Map<string, Uint8Array>(
      await Promise.all(
        ['adapter_config.json', 'adapter_model.safetensors'].map(
          async (name) => [name, new Uint8Array(await readFile(join(dir, name)))] as const,
        ),
      ),
    );
    const json = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')));
    const plain = await loadAdapter(lora, adapterFiles(files), { name: 'plain' });
    const generous = {
      ...json,
      target_modules: [...json.target_modules, 'query_key_value'],
      exclude_modules: ['lm_haed'],
      rank_pattern: { query_key_value: 3 },
      alpha_pattern: { 'layers.99.self_attn.q_proj': 3 },
      layers_to_transform: [0, 1, 99],
      modules_to_save: ['score'],
      bias: 'all',
    };
    files.set('adapter_config.json', new TextEncoder().encode(JSON.stringify(generous)));
    const { pairs } = await loadAdapter(lora, adapterFiles(files), { name: 'generous' });
    expect([...pairs.keys()]).toEqual([...plain.pairs.keys()]);
    // but weights that find no place, or places without weights, are errors as ever
    files.set(
      'adapter_config.json',
      new TextEncoder().encode(JSON.stringify({ ...generous, layers_to_transform: [1] })),
    );
    await expect(loadAdapter(lora, adapterFiles(files), { name: 'less' })).rejects.toThrow('keys find no place');
    lora.dispose();
    model.dispose();
  });

  test('an adapter for another base is refused with keys, shapes and nearest modules, and leaves nothing', async () => {
    const { device } = at;
    const model = await loadFamily(device, 'families/qwen3');
    const lora = new LoraModel(model, device);
    await expect(loadAdapterFolder(lora, join(fixtures, 'peft-tiny/lora/adapter'))).rejects.toThrow(
      /shapes do not fit this model: .*\[\d+,\d+\], expected \[\d+,\d+\].*another base/,
    );
    await expect(loadAdapterFolder(lora, join(fixtures, 'nowhere'))).rejects.toThrow('a file cannot be read');
    expect(lora.adapters.size).toBe(0);
    const dir = await mkdtemp(join(tmpdir(), 'lowrank-lora-'));
    await writeFile(
      join(dir, 'adapter_config.json'),
      JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'], use_dora: true }),
    );
    await expect(loadAdapterFolder(lora, dir)).rejects.toThrow('uses a setting that is not supported: use_dora');
    await writeFile(
      join(dir, 'adapter_config.json'),
      JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'] }),
    );
    await expect(loadAdapterFolder(lora, dir)).rejects.toThrow(/must be there and readable/);
    await writeFile(join(dir, 'adapter_model.bin'), '');
    await expect(loadAdapterFolder(lora, dir)).rejects.toThrow(/the format of old PEFT versions/);
    expect(lora.adapters.size).toBe(0);
    await writeFile(join(dir, 'adapter_config.json'), '{ broken');
    await expect(loadAdapterFolder(lora, dir)).rejects.toThrow('adapter_config.json is not JSON');
    await rm(dir, { recursive: true });
    lora.dispose();
    model.dispose();
  });
});

describe('adapter_config.json', () => {
  /** What PEFT 0.21.2 writes for `LoraConfig(target_modules=["q_proj"])`. */
  const current = {
    task_type: null,
    peft_type: 'LORA',
    auto_mapping: null,
    peft_version: '0.21.2',
    base_model_name_or_path: null,
    revision: null,
    inference_mode: true,
    r: 8,
    target_modules: ['q_proj'],
    exclude_modules: null,
    lora_alpha: 8,
    lora_dropout: 0.0,
    fan_in_fan_out: false,
    bias: 'none',
    use_rslora: false,
    modules_to_save: null,
    init_lora_weights: true,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
    megatron_config: null,
    megatron_core: 'megatron.core',
    trainable_token_indices: null,
    loftq_config: {},
    eva_config: null,
    corda_config: null,
    lora_ga_config: null,
    use_dora: false,
    velora_config: null,
    alora_invocation_tokens: null,
    use_qalora: false,
    qalora_group_size: 16,
    monteclora_config: null,
    layer_replication: null,
    lora_bias: false,
    target_parameters: null,
    use_bdlora: null,
    arrow_config: null,
    kasa_config: null,
    ensure_weight_tying: false,
  };

  test('of the current PEFT is read, unknown keys and all', () => {
    expect(fromPeftJson({ ...current, a_key_of_tomorrow: 3 })).toEqual(
      resolveConfig({ r: 8, loraAlpha: 8, targetModules: ['q_proj'] }),
    );
    expect(fromPeftJson({ ...current, layers_to_transform: 1, layers_pattern: ['h', 'layers'] })).toMatchObject({
      layersToTransform: [1],
      layersPattern: ['h', 'layers'],
    });
  });

  test.each([
    { use_dora: true },
    { lora_bias: true },
    { ensure_weight_tying: true },
    { trainable_token_indices: [3] },
    { target_parameters: ['x'] },
    { layer_replication: [[0, 4]] },
    { init_lora_weights: 'pissa' },
    { fan_in_fan_out: true },
    { peft_type: 'LOHA' },
  ])('a setting that changes results is refused: %o', (o) => {
    expect(() => fromPeftJson({ ...current, ...o })).toThrow(Object.keys(o)[0]);
  });
});
