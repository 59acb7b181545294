import { bf16ToF32, bytesSource, f16ToF32, f32ToBf16, f32ToF16, openGguf } from '@lowrank/formats';
import { describe, expect, test } from 'vitest';
import { ggufConfigJson, ggufFiles, loadConfig, loadModel, readConfig } from '../src/index.ts';
import { inverseFrequencies } from '../src/rope-table.ts';
import { largestDifference, readJsonFile, readVectors, useDevice } from './helpers.ts';
import { familyGguf, type GgufOptions, llama3Factors } from './write-gguf.ts';

const at = useDevice(1);
const files = async (family: string, options?: GgufOptions) =>
  ggufFiles(bytesSource(await familyGguf(family, options), `${family}.gguf`));

/** mistral's window is not written for the architecture `llama`, so that family cannot come back whole. */
test.each(['llama', 'llama3', 'llama-linear-rope', 'smollm2', 'qwen2', 'qwen3'])(
  '%s written as GGUF and read back: logits are those of transformers',
  async (family) => {
    const vectors = await readVectors('families', family, 'vectors.safetensors');
    using model = await loadModel(at.device, await files(family), { computeDtype: 'f32' });
    const { shape, data } = vectors.get('input_ids')!;
    using ids = at.device.tensor(data, { shape, dtype: 'i32' });
    using logits = model.forward(ids);
    expect(largestDifference(await logits.toArray(), vectors.get('logits')!.data)).toBeLessThanOrEqual(1e-4);
  },
);

test.each(['llama', 'smollm2', 'qwen2', 'qwen3', 'llama3', 'llama-linear-rope'])(
  '%s: the configuration of a GGUF is that of the folder',
  async (family) => {
    const { config } = await loadConfig(await files(family));
    const folder = readConfig(readJsonFile('families', family, 'config.json'));
    const plain = (c: typeof folder) => ({
      ...c,
      rope: undefined,
      slidingWindow: undefined,
      padTokenId: undefined,
      normEps: Math.fround(c.normEps),
    });
    expect(plain(config)).toEqual(plain(folder));
    const turns = (c: typeof folder) => inverseFrequencies(c.rope, c.headDim);
    for (const [i, f] of turns(config).entries()) expect(f / turns(folder)[i]!).toBeCloseTo(1, 6);
  },
);

test('factors of Llama 3.1 are recognized, others kept as they are', async () => {
  const rope = {
    rope_type: 'llama3',
    rope_theta: 500000,
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const own = await openGguf(bytesSource(await familyGguf('llama3')));
  expect((await ggufConfigJson(own)).rope_parameters).toMatchObject({
    rope_type: 'factors',
    factors: [
      ...llama3Factors(
        readJsonFile<{ rope_parameters: Record<string, number> }>('families', 'llama3', 'config.json').rope_parameters,
        16,
      ),
    ],
  });
  const known = await openGguf(
    bytesSource(
      await familyGguf('llama3', { metadata: { 'llama.rope.freq_base': { type: 'float32', value: 500000 } } }),
    ),
  );
  known.readF32 = async () => llama3Factors(rope as never, 16);
  expect((await ggufConfigJson(known)).rope_parameters).toEqual(rope);
});

describe('storage', () => {
  test.each([
    ['F16', 'f16'],
    ['BF16', 'bf16'],
    ['Q8_0', 'f32'],
  ] as const)('%s weights are stored as %s, with the file’s values', async (type, dtype) => {
    using exact = await loadModel(at.device, await files('llama'));
    using model = await loadModel(at.device, await files('llama', { type }));
    const halves = {
      F16: (x: Float32Array) => f16ToF32(f32ToF16(x)),
      BF16: (x: Float32Array) => bf16ToF32(f32ToBf16(x)),
    };
    const found = new Map(model.namedParameters());
    for (const [path, tensor] of exact.namedParameters()) {
      const own = found.get(path)!;
      expect(own.dtype, path).toBe(tensor.rank === 2 ? dtype : 'f32');
      const want = (await tensor.toArray()) as Float32Array;
      const got = (await own.toArray()) as Float32Array;
      if (tensor.rank === 1) expect(got, path).toEqual(want);
      else if (type === 'Q8_0') expect(largestDifference(got, want), path).toBeLessThan(0.02 * Math.max(...want));
      else expect(got, path).toEqual(halves[type](want));
    }
  });

  test('weightDtype rounds what it narrows', async () => {
    using exact = await loadModel(at.device, await files('qwen2'));
    using model = await loadModel(at.device, await files('qwen2'), { weightDtype: 'bf16' });
    const found = new Map(model.namedParameters());
    for (const [path, tensor] of exact.namedParameters()) {
      expect(found.get(path)!.dtype, path).toBe('bf16');
      expect(await found.get(path)!.toArray(), path).toEqual(
        bf16ToF32(f32ToBf16((await tensor.toArray()) as Float32Array)),
      );
    }
  });
});

describe('what cannot be read', () => {
  const load = async (family: string, options: GgufOptions) => loadModel(at.device, await files(family, options));

  test('a type without values is named, and the tensor', async () => {
    await expect(load('llama', { odd: { name: 'blk.1.attn_v.weight', type: 'MXFP4' } })).rejects.toThrow(
      /type cannot be read: model\.layers\.1\.self_attn\.v_proj\.weight \(blk\.1\.attn_v\.weight\) is MXFP4.*llama-quantize/,
    );
  });

  test('a missing tensor, with the nearest names', async () => {
    await expect(load('llama', { leaveOut: ['blk.1.ffn_up.weight'] })).rejects.toThrow(
      /no "blk\.1\.ffn_up\.weight" among \d+ tensors.*Nearest: .*"blk\.0\.ffn_up\.weight"/,
    );
  });

  test('an unknown architecture', async () => {
    await expect(
      load('llama', { metadata: { 'general.architecture': { type: 'string', value: 'mamba' } } }),
    ).rejects.toThrow(/unknown GGUF architecture: mamba.*Known: llama, qwen2, qwen3/);
  });

  test('a mixture of experts, an unknown rope scaling', async () => {
    await expect(load('llama', { metadata: { 'llama.expert_count': { type: 'uint32', value: 8 } } })).rejects.toThrow(
      /mixtures of experts.*8 experts/,
    );
    await expect(
      load('llama', { metadata: { 'llama.rope.scaling.type': { type: 'string', value: 'yarn' } } }),
    ).rejects.toThrow(/unknown rope scaling: yarn/);
  });

  test('one file of several', async () => {
    await expect(load('llama', { metadata: { 'split.count': { type: 'uint16', value: 3 } } })).rejects.toThrow(
      /split over several GGUF files: llama\.gguf: one of 3\. Join them/,
    );
  });

  test('a file that is cut short', async () => {
    const bytes = await familyGguf('llama');
    await expect(
      loadModel(at.device, ggufFiles(bytesSource(bytes.subarray(0, bytes.length - 5000), 'cut.gguf'))),
    ).rejects.toThrow(/cut\.gguf/);
  });

  test('metadata that say another shape', async () => {
    await expect(
      load('llama', { metadata: { 'llama.feed_forward_length': { type: 'uint32', value: 128 } } }),
    ).rejects.toThrow(
      /wrong shape: model\.layers\.0\.mlp\.gate_proj\.weight of llama\.gguf: \[96,64\], the configuration asks for \[128,64\]/,
    );
  });
});
