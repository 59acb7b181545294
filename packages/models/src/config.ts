import { check, LowrankError } from '@lowrank/tensor';

/** How positions turn: `theta` is the base; `factors` changes the frequencies of a longer context. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling?:
    | { readonly type: 'linear'; readonly factor: number }
    | {
        readonly type: 'llama3';
        readonly factor: number;
        readonly lowFreqFactor: number;
        readonly highFreqFactor: number;
        readonly originalMaxPositions: number;
      }
    /** Each pair's own factor, as GGUF files keep it: its frequency is divided by it. */
    | { readonly type: 'factors'; readonly factors: readonly number[] };
  /** Share of the head's width that turns; 1 where absent. */
  readonly partial?: number;
}

/** Everything that the shapes and the arithmetic of a decoder depend on. Families read it from their own `config.json`. */
export interface DecoderConfig {
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEps: number;
  readonly rope: RopeConfig;
  /** Longest sequence that the model was made for. */
  readonly maxPositions: number;
  /** The output head shares the embedding's table. */
  readonly tieEmbeddings: boolean;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** RMS norm of each head's q and k before they turn. */
  readonly qkNorm: boolean;
  /** A query of layer i sees this many keys at most, itself included. */
  readonly slidingWindow?: (layer: number) => number | undefined;
  readonly bosTokenId?: number;
  /** Tokens that end a generation. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId?: number;
}

/** One family: which `config.json` it takes, and how it reads it. */
export interface Family {
  /** `model_type` of the configurations it reads. */
  readonly modelType: string;
  /** `general.architecture` of its GGUF files. */
  readonly ggufArchitecture: string;
  readConfig(json: ConfigReader): DecoderConfig;
}

/** Typed access to a `config.json`, with errors that name the key. */
export class ConfigReader {
  readonly #json: Record<string, unknown>;

  constructor(json: unknown) {
    check(
      json !== null && typeof json === 'object' && !Array.isArray(json),
      'config',
      'config.json must hold an object',
    );
    this.#json = json as Record<string, unknown>;
  }

  has(key: string): boolean {
    return this.#json[key] !== undefined && this.#json[key] !== null;
  }

  /** A positive integer; `fallback` where the key is absent. */
  integer(key: string, fallback?: number): number {
    const v = this.has(key) ? this.#json[key] : fallback;
    if (typeof v !== 'number' || !Number.isInteger(v) || v <= 0 || v > 2 ** 31)
      throw new LowrankError('config', 'needs a positive integer', `${key}: ${JSON.stringify(v)}`);
    return v;
  }

  number(key: string, fallback?: number): number {
    const v = this.has(key) ? this.#json[key] : fallback;
    if (typeof v !== 'number' || !Number.isFinite(v))
      throw new LowrankError('config', 'needs a number', `${key}: ${JSON.stringify(v)}`);
    return v;
  }

  boolean(key: string, fallback: boolean): boolean {
    const v = this.has(key) ? this.#json[key] : fallback;
    if (typeof v !== 'boolean') throw new LowrankError('config', 'needs true or false', `${key}: ${JSON.stringify(v)}`);
    return v;
  }

  string(key: string, fallback?: string): string {
    const v = this.has(key) ? this.#json[key] : fallback;
    if (typeof v !== 'string') throw new LowrankError('config', 'needs a string', `${key}: ${JSON.stringify(v)}`);
    return v;
  }

  /** A nested object, where it is there. */
  object(key: string): ConfigReader | undefined {
    return this.has(key) ? new ConfigReader(this.#json[key]) : undefined;
  }

  /** One integer or a list of them. */
  integers(key: string): number[] {
    const v = this.#json[key];
    const list = v === undefined || v === null ? [] : Array.isArray(v) ? v : [v];
    if (!list.every((x) => Number.isInteger(x) && x >= 0))
      throw new LowrankError('config', 'needs token ids', `${key}: ${JSON.stringify(v)}`);
    return list as number[];
  }

  /** A list of finite numbers. */
  numbers(key: string): number[] {
    const v = this.#json[key];
    if (!Array.isArray(v) || !v.every((x) => Number.isFinite(x)))
      throw new LowrankError('config', 'needs a list of numbers', `${key}: ${JSON.stringify(v)}`);
    return v as number[];
  }

  strings(key: string): string[] {
    const v = this.#json[key];
    return Array.isArray(v) ? v.map(String) : [];
  }
}

/** Rope settings as transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) write them. */
export function readRope(json: ConfigReader): RopeConfig {
  const nested = json.object('rope_parameters') ?? json.object('rope_scaling');
  const theta = nested?.has('rope_theta') ? nested.number('rope_theta') : json.number('rope_theta', 10000);
  const partial = nested?.has('partial_rotary_factor')
    ? nested.number('partial_rotary_factor')
    : json.number('partial_rotary_factor', 1);
  const base: RopeConfig = partial === 1 ? { theta } : { theta, partial };
  const type = nested?.has('rope_type') ? nested.string('rope_type') : nested?.string('type', 'default');
  if (!nested || type === 'default') return base;
  if (type === 'linear') return { ...base, scaling: { type, factor: nested.number('factor') } };
  if (type === 'llama3')
    return {
      ...base,
      scaling: {
        type,
        factor: nested.number('factor'),
        lowFreqFactor: nested.number('low_freq_factor'),
        highFreqFactor: nested.number('high_freq_factor'),
        originalMaxPositions: nested.integer('original_max_position_embeddings'),
      },
    };
  if (type === 'factors') return { ...base, scaling: { type, factors: nested.numbers('factors') } };
  throw new LowrankError('config', 'unknown rope scaling', String(type), 'Known: default, linear, llama3');
}

/** What all families of this shape have in common. */
export function readDecoder(json: ConfigReader, rest: Partial<DecoderConfig> = {}): DecoderConfig {
  const hiddenSize = json.integer('hidden_size');
  const heads = json.integer('num_attention_heads');
  const kvHeads = json.integer('num_key_value_heads', heads);
  const headDim = json.integer('head_dim', Math.floor(hiddenSize / heads));
  check(
    heads % kvHeads === 0,
    'config',
    'num_attention_heads must be a multiple of num_key_value_heads',
    `${heads}, ${kvHeads}`,
  );
  check(
    json.string('hidden_act', 'silu') === 'silu',
    'config',
    'hidden_act must be silu',
    json.string('hidden_act', 'silu'),
  );
  const bos = json.integers('bos_token_id')[0];
  const pad = json.integers('pad_token_id')[0];
  return {
    modelType: json.string('model_type'),
    vocabSize: json.integer('vocab_size'),
    hiddenSize,
    intermediateSize: json.integer('intermediate_size'),
    layers: json.integer('num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    normEps: json.number('rms_norm_eps', 1e-6),
    rope: readRope(json),
    maxPositions: json.integer('max_position_embeddings', 2048),
    tieEmbeddings: json.boolean('tie_word_embeddings', false),
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    ...(bos === undefined ? {} : { bosTokenId: bos }),
    eosTokenIds: json.integers('eos_token_id'),
    ...(pad === undefined ? {} : { padTokenId: pad }),
    ...rest,
  };
}
