import { type DecoderConfig, readConfig } from '@lowrank/models';

/** Public configurations, as their `config.json` has them: shapes alone, no weights. */
const configs = {
  'smollm2-135m': {
    model_type: 'llama',
    vocab_size: 49152,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    rms_norm_eps: 1e-5,
    rope_theta: 100000,
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
  },
  'llama-3.2-1b': {
    model_type: 'llama',
    vocab_size: 128256,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    max_position_embeddings: 131072,
    tie_word_embeddings: true,
  },
  'llama-3.1-8b': {
    model_type: 'llama',
    vocab_size: 128256,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    max_position_embeddings: 131072,
    tie_word_embeddings: false,
  },
} as const;

export type ShapeName = keyof typeof configs;
export const shapeNames = Object.keys(configs) as ShapeName[];

/** `config.json` of a public model, as other libraries take it. */
export function rawConfig(name: ShapeName, layers?: number): Record<string, unknown> {
  return { ...configs[name], ...(layers ? { num_hidden_layers: layers } : {}) };
}

/** The shapes of a public model, optionally with fewer layers. */
export function shapeOf(name: ShapeName, layers?: number): DecoderConfig {
  return readConfig(rawConfig(name, layers));
}

/** Weights of a linear layer, of all of them, and of the tables, in numbers. */
function parameterCount(c: DecoderConfig): { linear: number; tables: number } {
  const attention = c.hiddenSize * c.headDim * (2 * c.heads + 2 * c.kvHeads);
  const mlp = 3 * c.hiddenSize * c.intermediateSize;
  return { linear: c.layers * (attention + mlp), tables: c.vocabSize * c.hiddenSize * (c.tieEmbeddings ? 1 : 2) };
}

/**
 * Floating-point operations of one step, a token, counted from the shapes: forward 2 a weight, the same for the input's gradient; attention
 * forward 2·2·T/2 a head element (causal) and 2.5 times that backward; the low-rank pairs three times 2 a number. Recompute adds nothing
 * here: it is work done twice, not work to be done.
 */
export function flopsPerToken(c: DecoderConfig, length: number, rank: number): number {
  const { linear } = parameterCount(c);
  const head = c.vocabSize * c.hiddenSize;
  const attention = c.layers * c.heads * c.headDim * length * 2 * (1 + 2.5);
  const a = c.hiddenSize;
  const pairs =
    c.layers *
    rank *
    (a +
      c.heads * c.headDim +
      2 * (a + c.kvHeads * c.headDim) +
      (c.heads * c.headDim + a) +
      2 * (a + c.intermediateSize) +
      (c.intermediateSize + a));
  return 4 * (linear + head) + attention + 6 * pairs;
}

/** The same where every weight trains: a third product for its gradient, and none for low-rank pairs. */
export function fullFlopsPerToken(c: DecoderConfig, length: number): number {
  const { linear } = parameterCount(c);
  return flopsPerToken(c, length, 0) + 2 * (linear + c.vocabSize * c.hiddenSize);
}
