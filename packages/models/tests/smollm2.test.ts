import { join } from 'node:path';
import { BlockwiseWeight, fromBnbTensors } from '@lowrank/nf4';
import { dequantize, type LinearWeight } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import { modelsDir, need } from '../../../scripts/testing/shared.ts';
import { type CausalLm, generate, type LoadOptions, loadModel, loadTokenizer } from '../src/index.ts';
import { folderFiles } from '../src/node.ts';
import { largestDifference, readJsonFile, useDevice } from './helpers.ts';

const at = useDevice();
const models = modelsDir();

/** What transformers gave in f32; see scripts/reference/smollm2_logits.py. */
interface Recorded {
  newTokens: number;
  logitIds: number[];
  prompts: {
    name: string;
    ids: number[];
    positions: number[];
    argmax: number[];
    greedy: number[];
    max: number[];
    meanSquare: number[];
    logSumExp: number[];
    logits: number[][];
  }[];
}

const bases: Record<string, { path: string; options?: () => LoadOptions }> = {
  dense: { path: 'SmolLM2-135M-Instruct' },
  gguf: { path: 'SmolLM2-135M-Instruct.Q4_1.gguf' },
  bnb: {
    path: 'SmolLM2-135M-Instruct-bnb-4bit',
    options: () => ({ blockwise: (name, names, read) => fromBnbTensors(at.device, name, names, read) }),
  },
};

/** Logits of all positions, a few rows at a time: 400 × 49,152 of them would be 75 MiB. */
async function* logitsOf(model: CausalLm, ids: readonly number[]): AsyncGenerator<Float32Array> {
  using input = at.device.tensor([ids as number[]], { dtype: 'i32' });
  using hidden = model.hidden(input);
  using rows = hidden.reshape([ids.length, model.config.hiddenSize]);
  for (let from = 0; from < ids.length; from += 64) {
    using part = rows.slice(0, from, Math.min(from + 64, ids.length));
    using logits = model.head(part);
    const all = (await logits.toArray()) as Float32Array;
    for (let i = 0; i < logits.shape[0]!; i++) yield all.subarray(i * logits.shape[1]!, (i + 1) * logits.shape[1]!);
  }
}

function largest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

describe.each(Object.keys(bases))('SmolLM2-135M-Instruct, %s', (base) => {
  const { path, options } = bases[base]!;
  const load = async (folder: string) =>
    loadModel(at.device, await folderFiles(join(folder, path)), { computeDtype: 'f32', ...options?.() });

  test('logits of 20 prompts differ from those of transformers by at most 2e-3', {
    timeout: 900_000,
  }, async (context) => {
    using model = await load(need(context, models));
    const { prompts, logitIds } = readJsonFile<Recorded>('smollm2', `logits-${base}.json`);
    expect(prompts).toHaveLength(20);
    let worst = 0;
    const compare = (own: number, theirs: number) => {
      worst = Math.max(worst, Math.abs(own - theirs));
      expect(Math.abs(own - theirs)).toBeLessThanOrEqual(2e-3);
    };
    for (const prompt of prompts) {
      let position = 0;
      for await (const logits of logitsOf(model, prompt.ids)) {
        const best = largest(logits);
        // Where two tokens are as likely as the allowed difference, either may come first.
        if (best !== prompt.argmax[position])
          expect(
            logits[best]! - logits[prompt.argmax[position]!]!,
            `${prompt.name}, position ${position}`,
          ).toBeLessThan(4e-3);
        const k = prompt.positions.indexOf(position++);
        if (k < 0) continue;
        compare(logits[best]!, prompt.max[k]!);
        for (const [i, id] of logitIds.entries()) compare(logits[id]!, prompt.logits[k]![i]!);
        let sum = 0;
        let squares = 0;
        for (const x of logits) {
          sum += Math.exp(x - logits[best]!);
          squares += x * x;
        }
        compare(logits[best]! + Math.log(sum), prompt.logSumExp[k]!);
        compare(Math.sqrt(squares / logits.length), Math.sqrt(prompt.meanSquare[k]!));
      }
      expect(position).toBe(prompt.ids.length);
    }
    console.log(`SmolLM2 ${base}: largest logit difference ${worst.toExponential(1)}`);
  });

  test('greedy text is that of transformers', { timeout: 900_000 }, async (context) => {
    using model = await load(need(context, models));
    const { prompts, newTokens } = readJsonFile<Recorded>('smollm2', `logits-${base}.json`);
    // Ten at a time, of like lengths: the shorter ones are padded.
    for (let from = 0; from < prompts.length; from += 10) {
      const group = prompts.slice(from, from + 10);
      const out = group.map((): number[] => []);
      for await (const { prompt, id } of generate(
        model,
        group.map((p) => p.ids),
        { maxNewTokens: newTokens, eosTokenIds: [] },
      ))
        out[prompt]!.push(id);
      for (const [i, p] of group.entries()) expect(out[i], p.name).toEqual(p.greedy);
    }
  });
});

test('the three bases hold the same weights: exact values, their bf16 roundings, and these quantized', {
  timeout: 300_000,
}, async (context) => {
  const folder = need(context, models);
  using dense = await loadModel(at.device, await folderFiles(join(folder, bases.dense!.path)));
  using gguf = await loadModel(at.device, await folderFiles(join(folder, bases.gguf!.path)));
  using bnb = await loadModel(at.device, await folderFiles(join(folder, bases.bnb!.path)), bases.bnb!.options!());
  expect([...dense.namedParameters()].every(([, t]) => t.dtype === 'bf16')).toBe(true);
  const exact = new Map(gguf.namedParameters());
  for (const [path, tensor] of dense.namedParameters()) {
    using rounded = exact.get(path)!.cast('bf16');
    expect(Buffer.compare(await rounded.bytes(), await tensor.bytes()), path).toBe(0);
  }
  for (const path of ['model.layers.0.self_attn.q_proj', 'model.layers.29.mlp.down_proj']) {
    const { weight } = dense.at(path) as unknown as { weight: LinearWeight };
    using values = weight.dequantize();
    using own = await BlockwiseWeight.quantize(values);
    const { weight: stored } = bnb.at(path) as unknown as { weight: BlockwiseWeight };
    for (const [part, tensor] of own.tensors())
      expect(Buffer.compare(await tensor.bytes(), await stored.tensors().get(part)!.bytes()), `${path} ${part}`).toBe(
        0,
      );
    using theirs = dequantize(stored.quant, { ...stored.attrs, dtype: 'f32' });
    const a = (await theirs.toArray()) as Float32Array;
    const b = (await values.toArray()) as Float32Array;
    expect(largestDifference(a, b)).toBeLessThan(0.2 * b.reduce((m, x) => Math.max(m, Math.abs(x)), 0));
  }
});

test('a chat is answered', { timeout: 300_000 }, async (context) => {
  const files = await folderFiles(join(need(context, models), bases.dense!.path));
  const tokenizer = await loadTokenizer(files);
  using model = await loadModel(at.device, files, { computeDtype: 'f32' });
  const ids = tokenizer.encodeChat([{ role: 'user', content: 'What is the capital of France?' }], {
    addGenerationPrompt: true,
  });
  const tokens: string[] = [];
  let finish: string | undefined;
  for await (const token of generate(model, ids, { tokenizer, maxNewTokens: 20 })) {
    tokens.push(token.text);
    finish = token.finish;
  }
  expect(tokens.join('')).toBe('The capital of France is Paris.');
  expect(finish).toBe('eos');
});
