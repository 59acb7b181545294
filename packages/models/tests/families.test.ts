import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { backward, crossEntropy, type Device, Scope } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import { type CausalLm, families, generate, loadConfig, loadModel, readConfig } from '../src/index.ts';
import { folderFiles } from '../src/node.ts';
import { familyFiles, fixtures, largestDifference, readJsonFile, readVectors, useDevice } from './helpers.ts';

const at = useDevice(1);
const names = ['llama', 'llama3', 'llama-linear-rope', 'smollm2', 'mistral', 'qwen2', 'qwen3'];

/** The folder as it is, or with the configuration as transformers 4 wrote it. */
function files(name: string, config: string) {
  return familyFiles(name, { 'config.json': readFileSync(join(fixtures, 'families', name, config)) });
}

async function generated(model: CausalLm, prompts: number[][], useCache: boolean): Promise<number[][]> {
  const out = prompts.map((): number[] => []);
  for await (const { prompt, id } of generate(model, prompts, { maxNewTokens: 16, eosTokenIds: [], useCache }))
    out[prompt]!.push(id);
  return out;
}

describe.each(names.flatMap((name) => ['config.json', 'config.legacy.json'].map((config) => [name, config] as const)))(
  '%s, %s',
  (name, config) => {
    test('logits are those of transformers', async () => {
      const vectors = await readVectors('families', name, 'vectors.safetensors');
      using model = await loadModel(at.device, files(name, config), { computeDtype: 'f32' });
      const { shape, data } = vectors.get('input_ids')!;
      using ids = at.device.tensor(data, { shape, dtype: 'i32' });
      using logits = model.forward(ids);
      expect(logits.shape).toEqual(vectors.get('logits')!.shape);
      expect(largestDifference(await logits.toArray(), vectors.get('logits')!.data)).toBeLessThanOrEqual(1e-4);
    });

    test.each([true, false])('greedy text is that of transformers, cache %s', async (useCache) => {
      const vectors = await readVectors('families', name, 'vectors.safetensors');
      const { prompt } = readJsonFile<{ prompt: number }>('families', name, 'vectors.json');
      using model = await loadModel(at.device, files(name, config), { computeDtype: 'f32' });
      const ids = vectors.get('input_ids')!;
      const rows = [0, 1].map((b) => [...ids.data.subarray(b * ids.shape[1]!, b * ids.shape[1]! + prompt)]);
      expect((await generated(model, rows, useCache)).flat()).toEqual([...vectors.get('generated')!.data]);
    });
  },
);

test.each(names)('%s: loss and gradients are those of PyTorch, whatever is recomputed', async (name) => {
  const vectors = await readVectors('families', name, 'vectors.safetensors');
  const { loss, tokens } = readJsonFile<{ loss: number; tokens: number }>('families', name, 'vectors.json');
  for (const recompute of ['none', 'selective', 'block'] as const) {
    using model = await loadModel(at.device, await folderFiles(join(fixtures, 'families', name)), {
      computeDtype: 'f32',
    });
    const wanted = [...vectors.keys()].filter((k) => k.startsWith('grad.'));
    const parameters = new Map([...model.namedParameters()].map(([path, t]) => [`grad.${path}`, t]));
    for (const key of wanted) parameters.get(key)!.requireGrad();
    expect(await step(at.device, model, vectors, tokens, recompute)).toBeCloseTo(loss, 4);
    for (const key of wanted) {
      using grad = parameters.get(key)!.grad!;
      const { data, shape } = vectors.get(key)!;
      expect(grad.shape).toEqual(shape);
      const scale = Math.max(...data.map(Math.abs));
      expect(
        largestDifference(await grad.toArray(), data) / scale,
        `${key}, recompute ${recompute}`,
      ).toBeLessThanOrEqual(1e-4);
    }
  }
});

/** One backward pass over the recorded batch; the mean loss of its counted tokens. */
async function step(
  device: Device,
  model: CausalLm,
  vectors: Awaited<ReturnType<typeof readVectors>>,
  tokens: number,
  recompute: 'none' | 'selective' | 'block',
): Promise<number> {
  const { shape, data } = vectors.get('input_ids')!;
  const [b, t] = shape as [number, number];
  const labels = vectors.get('labels')!.data;
  const shifted = Int32Array.from(labels, (_, i) => (i % t === t - 1 ? -100 : labels[i + 1]!));
  using scope = new Scope();
  const ids = device.tensor(data, { shape, dtype: 'i32' });
  const rows = model.hidden(ids, { recompute }).reshape([b * t, model.config.hiddenSize]);
  const loss = crossEntropy(model.head(rows), device.tensor(shifted, { shape: [b * t], dtype: 'i32' }))
    .sum()
    .mul(1 / tokens);
  backward(loss);
  scope.detach(loss);
  using kept = loss;
  return kept.item();
}

test('every family has a record of its own, and both layouts of its configuration mean the same', async () => {
  const recorded = new Set<string>();
  for (const name of names) {
    const [now, before] = ['config.json', 'config.legacy.json'].map((f) =>
      readConfig(readJsonFile('families', name, f)),
    );
    const windows = (c: typeof now) => Array.from({ length: c!.layers }, (_, i) => c!.slidingWindow?.(i));
    expect({ ...before, slidingWindow: windows(before) }).toEqual({ ...now, slidingWindow: windows(now) });
    recorded.add(now!.modelType);
  }
  expect([...recorded].sort()).toEqual(families.map((f) => f.modelType).sort());
});

test('eos ids come from generation_config.json where it has some', async () => {
  const generation = familyFiles('llama', { 'generation_config.json': '{"eos_token_id": [5, 7]}' });
  expect((await loadConfig(generation)).config.eosTokenIds).toEqual([5, 7]);
  expect((await loadConfig(familyFiles('llama', { 'generation_config.json': '{}' }))).config.eosTokenIds).toEqual([2]);
});

test.each([
  ['{"model_type": "gpt_bigcode"}', /unknown model_type: gpt_bigcode\. Known: llama, mistral, qwen2, qwen3/],
  ['{"model_type": "llama", "hidden_size": -1, "num_attention_heads": 4}', /hidden_size: -1/],
  [
    '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 3}',
    /multiple of num_key_value_heads: 4, 3/,
  ],
  ['[]', /must hold a JSON object: config\.json of llama/],
  ['{"model_type": ', /not JSON: config\.json of llama/],
])('a configuration that cannot be read: %s', async (config, message) => {
  await expect(loadConfig(familyFiles('llama', { 'config.json': config }))).rejects.toThrow(message);
});

test('an unknown rope scaling is named', () => {
  const json = {
    ...readJsonFile('families', 'llama', 'config.json'),
    rope_parameters: { rope_type: 'yarn', rope_theta: 1e4, factor: 4 },
  };
  expect(() => readConfig(json)).toThrow(/unknown rope scaling: yarn\. Known: default, linear, llama3/);
});
