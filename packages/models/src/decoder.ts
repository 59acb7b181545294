import {
  attention,
  binary,
  check,
  checkpoint,
  DenseWeight,
  type Device,
  describe,
  Embedding,
  expand,
  type FloatDType,
  Linear,
  type LinearWeight,
  linearGroup,
  Module,
  type RecomputePolicy,
  RmsNormLayer,
  reshape,
  rope,
  scope,
  split,
  stackWeights,
  swiglu,
  type Tensor,
} from '@lowrank/tensor';
import type { DecoderConfig } from './config.ts';
import type { KvCache } from './kv-cache.ts';
import { ropeTables } from './rope-table.ts';

/** Gives weights by their checkpoint name, one at a time, in the order of the model. Tensors given are the model's to dispose. */
export interface WeightSource {
  linear(name: string, shape: readonly [out: number, input: number]): Promise<LinearWeight>;
  tensor(name: string, shape: readonly number[]): Promise<Tensor>;
}

/** What attention needs besides hidden states. */
export interface Positions {
  /** i32 [B, T] */
  readonly positions: Tensor;
  /** i32 [B, T]: first key that a query sees; packed sequences do not see each other. */
  readonly starts?: Tensor | undefined;
  readonly cache?: KvCache | undefined;
}

/** Cosines and sines f32 [positions, R/2] that heads turn by. */
export interface Tables {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

class Attention extends Module {
  readonly #config: DecoderConfig;
  readonly #layer: number;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly qNorm: RmsNormLayer | undefined;
  readonly kNorm: RmsNormLayer | undefined;

  constructor(
    config: DecoderConfig,
    layer: number,
    parts: {
      q: Linear;
      k: Linear;
      v: Linear;
      o: Linear;
      qNorm?: RmsNormLayer | undefined;
      kNorm?: RmsNormLayer | undefined;
    },
  ) {
    super();
    this.#config = config;
    this.#layer = layer;
    this.q = this.child('q_proj', parts.q);
    this.k = this.child('k_proj', parts.k);
    this.v = this.child('v_proj', parts.v);
    this.o = this.child('o_proj', parts.o);
    this.qNorm = parts.qNorm && this.child('q_norm', parts.qNorm);
    this.kNorm = parts.kNorm && this.child('k_norm', parts.kNorm);
  }

  /** x [B, T, K] to [B, T, K] */
  forward(x: Tensor, { positions, starts, cache }: Positions, { cos, sin }: Tables): Tensor {
    const { heads, kvHeads, headDim } = this.#config;
    const [b, t] = x.shape as [number, number, number];
    const parts = [heads, kvHeads, kvHeads] as const;
    const joint = linearGroup(x, [this.q, this.k, this.v]);
    const qkv = reshape(joint, [b, t, heads + 2 * kvHeads, headDim]);
    joint.dispose();
    let queries: Tensor;
    let keys: Tensor;
    let values: Tensor;
    if (this.qNorm && this.kNorm) {
      const [q, k, v] = split(qkv, parts, 2) as [Tensor, Tensor, Tensor];
      queries = rope(this.qNorm.forward(q), cos, sin, positions);
      keys = rope(this.kNorm.forward(k), cos, sin, positions);
      values = v;
    } else {
      const turned = rope(qkv, cos, sin, positions, { heads: heads + kvHeads });
      [queries, keys, values] = split(turned, parts, 2) as [Tensor, Tensor, Tensor];
      turned.dispose();
    }
    qkv.dispose();
    if (cache) ({ k: keys, v: values } = cache.append(this.#layer, keys, values));
    const y = attention(queries, keys, values, {
      starts: this.#window(b, t, keys.shape[1]!, starts, x.device),
    });
    return this.o.forward(reshape(y, [b, t, heads * headDim]));
  }

  /** The later of the packed sequence's start and the sliding window's. Query i sits at key i + Tk − Tq. */
  #window(b: number, tq: number, tk: number, starts: Tensor | undefined, device: Device): Tensor | undefined {
    const window = this.#config.slidingWindow?.(this.#layer);
    if (window === undefined || tk <= window) return starts;
    const first = expand(reshape(device.arange(tq, { start: tk - tq - window + 1 }), [1, tq]), [b, tq]);
    return binary('max', first, starts ?? device.zeros([b, tq], 'i32'));
  }
}

class Mlp extends Module {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;

  constructor(gate: Linear, up: Linear, down: Linear) {
    super();
    this.gate = this.child('gate_proj', gate);
    this.up = this.child('up_proj', up);
    this.down = this.child('down_proj', down);
  }

  forward(x: Tensor): Tensor {
    const both = linearGroup(x, [this.gate, this.up]);
    const y = swiglu(both);
    both.dispose();
    return this.down.forward(y);
  }
}

/** One layer: attention and MLP, each behind a norm and added to its input. */
export class Block extends Module {
  readonly attention: Attention;
  readonly mlp: Mlp;
  readonly inputNorm: RmsNormLayer;
  readonly postNorm: RmsNormLayer;

  constructor(attention: Attention, mlp: Mlp, inputNorm: RmsNormLayer, postNorm: RmsNormLayer) {
    super();
    this.attention = this.child('self_attn', attention);
    this.mlp = this.child('mlp', mlp);
    this.inputNorm = this.child('input_layernorm', inputNorm);
    this.postNorm = this.child('post_attention_layernorm', postNorm);
  }

  /** x + attention(norm(x)), then + mlp(norm(·)) */
  forward(x: Tensor, positions: Positions, tables: Tables): Tensor {
    return scope(() => {
      const mid = scope(() => x.add(this.attention.forward(this.inputNorm.forward(x), positions, tables)));
      return mid.add(this.mlp.forward(this.postNorm.forward(mid)));
    });
  }
}

export interface HiddenOptions extends Partial<Positions> {
  /** What the backward pass finds kept; `none` keeps everything. */
  readonly recompute?: RecomputePolicy;
  /** Let what enters each block, and what `recompute` keeps of it, wait in host memory for the backward pass, where the backend can. */
  readonly offload?: boolean;
}

interface Parts {
  readonly embedding: Embedding;
  readonly blocks: Block[];
  readonly norm: RmsNormLayer;
  readonly lmHead: Linear;
}

/** Every layer of a decoder, in the order of checkpoints. */
async function loadParts(config: DecoderConfig, source: WeightSource): Promise<Parts> {
  const { hiddenSize: k, intermediateSize: f, heads, kvHeads, headDim, normEps } = config;
  const linear = async (name: string, out: number, input: number, bias: boolean) =>
    new Linear(
      await source.linear(`${name}.weight`, [out, input]),
      bias ? await source.tensor(`${name}.bias`, [out]) : undefined,
    );
  const norm = async (name: string, width: number) =>
    new RmsNormLayer(await source.tensor(`${name}.weight`, [width]), normEps);
  const embedding = new Embedding(await source.tensor('model.embed_tokens.weight', [config.vocabSize, k]));
  const blocks: Block[] = [];
  for (let i = 0; i < config.layers; i++) {
    const p = `model.layers.${i}`;
    const at = `${p}.self_attn`;
    const inputNorm = await norm(`${p}.input_layernorm`, k);
    const self = new Attention(config, i, {
      q: await linear(`${at}.q_proj`, heads * headDim, k, config.qkvBias),
      k: await linear(`${at}.k_proj`, kvHeads * headDim, k, config.qkvBias),
      v: await linear(`${at}.v_proj`, kvHeads * headDim, k, config.qkvBias),
      o: await linear(`${at}.o_proj`, k, heads * headDim, config.outputBias),
      qNorm: config.qkNorm ? await norm(`${at}.q_norm`, headDim) : undefined,
      kNorm: config.qkNorm ? await norm(`${at}.k_norm`, headDim) : undefined,
    });
    stackWeights([self.q, self.k, self.v].map((l) => l.weight));
    const postNorm = await norm(`${p}.post_attention_layernorm`, k);
    const mlp = new Mlp(
      await linear(`${p}.mlp.gate_proj`, f, k, config.mlpBias),
      await linear(`${p}.mlp.up_proj`, f, k, config.mlpBias),
      await linear(`${p}.mlp.down_proj`, k, f, config.mlpBias),
    );
    stackWeights([mlp.gate, mlp.up].map((l) => l.weight));
    blocks.push(new Block(self, mlp, inputNorm, postNorm));
  }
  const last = await norm('model.norm', k);
  const lmHead = new Linear(
    new DenseWeight(
      config.tieEmbeddings ? embedding.weight : await source.tensor('lm_head.weight', [config.vocabSize, k]),
    ),
  );
  return { embedding, blocks, norm: last, lmHead };
}

/** A decoder-only language model of the Llama shape. Module paths are those of Hugging Face checkpoints. */
export class CausalLm extends Module {
  readonly config: DecoderConfig;
  readonly device: Device;
  readonly computeDtype: FloatDType;
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly norm: RmsNormLayer;
  readonly lmHead: Linear;
  #tables: (Tables & { readonly length: number }) | undefined;
  /** Shorter tables from before: steps that were recorded go on reading them. */
  readonly #outgrown: Tensor[] = [];

  private constructor(config: DecoderConfig, device: Device, computeDtype: FloatDType, parts: Parts) {
    super();
    this.config = config;
    this.device = device;
    this.computeDtype = computeDtype;
    const model = this.child('model', new (class Decoder extends Module {})());
    this.embedding = model.child('embed_tokens', parts.embedding);
    const layers = model.child('layers', new (class Layers extends Module {})());
    this.blocks = parts.blocks;
    for (const [i, block] of parts.blocks.entries()) layers.child(String(i), block);
    this.norm = model.child('norm', parts.norm);
    this.lmHead = this.child('lm_head', parts.lmHead);
  }

  /** Builds a model weight by weight, so that the host never holds more than one. When a weight fails, those before it are freed. */
  static async create(
    device: Device,
    config: DecoderConfig,
    source: WeightSource,
    options: { computeDtype?: FloatDType } = {},
  ): Promise<CausalLm> {
    const made: Disposable[] = [];
    const own = async <T extends Disposable>(weight: Promise<T>): Promise<T> => {
      made.push(await weight);
      return weight;
    };
    const owning: WeightSource = {
      linear: (name, shape) => own(source.linear(name, shape)),
      tensor: (name, shape) => own(source.tensor(name, shape)),
    };
    try {
      return new CausalLm(config, device, options.computeDtype ?? 'f32', await loadParts(config, owning));
    } catch (error) {
      for (const weight of made) weight[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Hidden states [B, T, K] after the last norm, for ids i32 [B, T]. Positions are 0 … T − 1 (after what the cache holds) unless given.
   * Make `prepare(length)` first where the call is recorded.
   */
  hidden(ids: Tensor, options: HiddenOptions = {}): Tensor {
    const { recompute = 'none', offload = false, cache, starts } = options;
    const [b, t] = ids.shape as [number, number];
    check(ids.rank === 2 && ids.dtype === 'i32', 'model', 'ids must be i32 [B, T]', () => describe(ids));
    const from = cache?.length ?? 0;
    const tables = this.prepare(from + t);
    return scope(() => {
      const positions =
        options.positions ?? expand(reshape(this.device.arange(t, { start: from }), [1, t]), [b, t]).contiguous();
      let x = this.embedding.forward(ids, this.computeDtype);
      const { offloads } = this.device;
      for (const block of this.blocks) {
        offloads?.turn();
        const y = checkpoint(recompute, () => block.forward(x, { positions, starts, cache }, tables), { offload });
        if (offload) x.offload();
        else x.dispose();
        x = y;
      }
      // what the last block stored is still on the device when the backward pass asks for it
      offloads?.turn();
      if (cache) cache.length += t;
      return this.norm.forward(x);
    });
  }

  /** Logits [n, V] of rows [n, K]. */
  head(rows: Tensor): Tensor {
    return this.lmHead.forward(rows);
  }

  /** Logits [B, T, V] of ids i32 [B, T]. */
  forward(ids: Tensor, options: HiddenOptions = {}): Tensor {
    return scope(() => this.head(this.hidden(ids, options)));
  }

  /** Makes the rotation tables for sequences up to `length`. */
  prepare(length: number): Tables {
    if (this.#tables && this.#tables.length >= length) return this.#tables;
    if (this.#tables) this.#outgrown.push(this.#tables.cos, this.#tables.sin);
    const rows = Math.max(length, Math.min(this.config.maxPositions, 2 * length));
    this.#tables = { ...ropeTables(this.device, this.config.rope, this.config.headDim, rows), length: rows };
    return this.#tables;
  }

  override dispose(): void {
    super.dispose();
    this.#tables?.cos.dispose();
    this.#tables?.sin.dispose();
    for (const t of this.#outgrown.splice(0)) t.dispose();
  }
}
