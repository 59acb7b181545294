import type { GgufFile } from '@lowrank/formats';
import { check, LowrankError } from '@lowrank/tensor';
import { families } from '../families/index.ts';
import { inverseFrequencies } from '../rope-table.ts';
import { ropeFactorsName } from './gguf.ts';

/**
 * The `config.json` that the model of a GGUF file would have, from its metadata. `rope_freqs.weight` becomes the settings of Llama 3's
 * scaling where these give the same factors, else a list of factors under `rope_type: 'factors'`, which is ours alone.
 */
export async function ggufConfigJson(file: GgufFile): Promise<Record<string, unknown>> {
  const architecture = file.string('general.architecture');
  const family = families.find((f) => f.ggufArchitecture === architecture);
  if (!family)
    throw new LowrankError(
      'config',
      'unknown GGUF architecture',
      `${architecture} (${file.name})`,
      `Known: ${[...new Set(families.map((f) => f.ggufArchitecture))].join(', ')}`,
    );
  const pieces = file.number('split.count', 1);
  check(
    pieces === 1,
    'config',
    'the model is split over several GGUF files',
    () => `${file.name}: one of ${pieces}`,
    'Join them: llama-gguf-split --merge first.gguf whole.gguf',
  );
  const key = (name: string) => `${architecture}.${name}`;
  const hidden = file.number(key('embedding_length'));
  const heads = uniform(file, key('attention.head_count'));
  const headDim = file.number(key('attention.key_length'), hidden / heads);
  const turning = file.number(key('rope.dimension_count'), headDim);
  const context = file.number(key('context_length'), 2048);
  const experts = file.number(key('expert_count'), 0);
  check(experts === 0, 'config', 'mixtures of experts are not supported', () => `${file.name}: ${experts} experts`);
  const theta = file.number(key('rope.freq_base'), 10000);
  const has = (tensor: string) => file.tensors.has(tensor);
  return {
    model_type: family.modelType,
    architectures: [architectures[family.modelType]],
    vocab_size: file.tensor('token_embd.weight').shape[0],
    hidden_size: hidden,
    intermediate_size: uniform(file, key('feed_forward_length')),
    num_hidden_layers: file.number(key('block_count')),
    num_attention_heads: heads,
    num_key_value_heads: file.metadata.has(key('attention.head_count_kv'))
      ? uniform(file, key('attention.head_count_kv'))
      : heads,
    head_dim: headDim,
    hidden_act: 'silu',
    rms_norm_eps: file.number(key('attention.layer_norm_rms_epsilon')),
    max_position_embeddings: context,
    rope_parameters: await ropeParameters(file, architecture, theta, headDim, context),
    ...(turning === headDim ? {} : { partial_rotary_factor: turning / headDim }),
    tie_word_embeddings: !has('output.weight'),
    ...(architecture === 'llama' || architecture === 'qwen3' ? { attention_bias: has('blk.0.attn_q.bias') } : {}),
    ...(architecture === 'llama' ? { mlp_bias: has('blk.0.ffn_gate.bias') } : {}),
    ...tokenIds(file),
  };
}

/** Class names that transformers looks for in `architectures`. */
const architectures: Readonly<Record<string, string>> = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
};

/** A number that newer files may give for each layer; all must be equal. */
function uniform(file: GgufFile, key: string): number {
  if (file.metadata.get(key)?.type !== 'array') return file.number(key);
  const values = [...new Set(file.numbers(key))];
  check(
    values.length === 1,
    'config',
    'layers of different shapes are not supported',
    () => `${key} of ${file.name}: ${values.join(', ')}`,
  );
  return values[0]!;
}

async function ropeParameters(
  file: GgufFile,
  architecture: string,
  theta: number,
  headDim: number,
  context: number,
): Promise<Record<string, unknown>> {
  if (file.tensors.has(ropeFactorsName)) {
    const factors = await file.readF32(ropeFactorsName);
    if (factors.every((f) => f === 1)) return { rope_type: 'default', rope_theta: theta };
    return (
      llama3Parameters(factors, theta, headDim) ?? { rope_type: 'factors', rope_theta: theta, factors: [...factors] }
    );
  }
  const key = (name: string) => `${architecture}.rope.${name}`;
  const linear = file.number(key('scale_linear'), 1);
  const type = file.string(key('scaling.type'), linear === 1 ? 'none' : 'linear');
  if (type === 'none') return { rope_type: 'default', rope_theta: theta };
  if (type === 'linear')
    return { rope_type: 'linear', rope_theta: theta, factor: file.number(key('scaling.factor'), linear) };
  throw new LowrankError(
    'config',
    'unknown rope scaling',
    `${type} (${file.name}, context ${context})`,
    'Known: none, linear, and the factors of rope_freqs.weight',
  );
}

/**
 * Converters keep only the factor of each pair. Llama 3.1 to 3.3 all scale by 8 or 32 with the same bounds: where these give the factors,
 * they are what was meant.
 */
function llama3Parameters(factors: Float32Array, theta: number, headDim: number): Record<string, unknown> | undefined {
  const scaling = {
    type: 'llama3',
    factor: factors.reduce((a, b) => Math.max(a, b), 1),
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: 8192,
  } as const;
  const base = inverseFrequencies({ theta }, headDim);
  const scaled = inverseFrequencies({ theta, scaling }, headDim);
  if (base.length !== factors.length) return undefined;
  const same = factors.every((f, i) => Math.abs(base[i]! / scaled[i]! / f - 1) < 1e-5);
  if (!same) return undefined;
  return {
    rope_type: 'llama3',
    rope_theta: theta,
    factor: scaling.factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
}

function tokenIds(file: GgufFile): Record<string, unknown> {
  const id = (name: string) =>
    file.metadata.has(`tokenizer.ggml.${name}`) ? file.number(`tokenizer.ggml.${name}`) : undefined;
  const eos = ggufEosTokenIds(file);
  const out: Record<string, unknown> = {
    bos_token_id: id('bos_token_id'),
    eos_token_id: eos.length === 1 ? eos[0] : eos,
    pad_token_id: id('padding_token_id'),
  };
  for (const key of Object.keys(out)) if (out[key] === undefined) delete out[key];
  return out;
}

/** Ends of a turn or a message, which files seldom name in their metadata. */
const endTexts = new Set(['<|im_end|>', '<|eot_id|>', '<|eom_id|>', '<|end|>', '<end_of_turn>']);

/** Every token at which generation ends: the metadata's, and control tokens that are known to end a turn. */
export function ggufEosTokenIds(file: GgufFile): number[] {
  const ids = new Set<number>();
  for (const name of ['eos_token_id', 'eot_token_id', 'eom_token_id']) {
    if (file.metadata.has(`tokenizer.ggml.${name}`)) ids.add(file.number(`tokenizer.ggml.${name}`));
  }
  if (file.metadata.has('tokenizer.ggml.tokens') && file.metadata.has('tokenizer.ggml.token_type')) {
    const types = file.numbers('tokenizer.ggml.token_type');
    file.strings('tokenizer.ggml.tokens').forEach((text, i) => {
      if (types[i] === 3 && endTexts.has(text)) ids.add(i);
    });
  }
  return [...ids];
}
