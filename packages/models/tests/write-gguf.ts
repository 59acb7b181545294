import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  bytesSource,
  type GgufMetadata,
  type GgufType,
  type GgufValue,
  GgufWriter,
  MemorySink,
  openSafetensors,
} from '@lowrank/formats';
import { fixtures, readJsonFile } from './helpers.ts';

const parts: Record<string, string> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
};

function ggufName(name: string): string {
  const match = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  if (match) return `blk.${match[1]}.${parts[match[2]!]}.${match[3]}`;
  return {
    'model.embed_tokens.weight': 'token_embd.weight',
    'model.norm.weight': 'output_norm.weight',
    'lm_head.weight': 'output.weight',
  }[name]!;
}

/** Rows of each head as llama.cpp's converter orders them for the architecture `llama`: the halves interleaved. */
function interleave(values: Float32Array, heads: number, rows: number): Float32Array {
  const width = values.length / rows;
  const half = rows / heads / 2;
  const out = new Float32Array(values.length);
  for (let h = 0; h < heads; h++)
    for (let s = 0; s < 2; s++)
      for (let i = 0; i < half; i++) {
        const from = (h * 2 + s) * half + i;
        const to = h * 2 * half + 2 * i + s;
        out.set(values.subarray(from * width, (from + 1) * width), to * width);
      }
  return out;
}

/** Factors by which the frequencies of a Llama 3 model are divided. */
export function llama3Factors(rope: Record<string, number>, headDim: number): Float32Array {
  const {
    rope_theta: theta,
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: original,
  } = rope as Record<string, number> &
    Record<
      'rope_theta' | 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings',
      number
    >;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wave = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wave < original / high) return 1;
    if (wave > original / low) return factor;
    const smooth = (original / wave - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

export interface GgufOptions {
  /** Type of the matrices; norms and biases are F32. */
  readonly type?: 'F32' | 'F16' | 'BF16' | 'Q8_0';
  readonly metadata?: Readonly<Record<string, GgufValue | undefined>>;
  /** Declares this tensor with another type and fills it with zero bytes. */
  readonly odd?: { readonly name: string; readonly type: GgufType };
  readonly leaveOut?: readonly string[];
}

/** A recorded family as the GGUF file that llama.cpp's converter would make of it. */
export async function familyGguf(
  family: string,
  { type = 'F32', metadata = {}, odd, leaveOut = [] }: GgufOptions = {},
): Promise<Uint8Array> {
  const config = readJsonFile<Record<string, unknown>>('families', family, 'config.json');
  const file = await openSafetensors(
    bytesSource(new Uint8Array(readFileSync(join(fixtures, 'families', family, 'model.safetensors')))),
  );
  const kind = config.model_type as string;
  const arch = kind === 'mistral' ? 'llama' : kind;
  const number = (key: string): number => config[key] as number;
  const rope = config.rope_parameters as Record<string, number> & { rope_type: string };
  const heads = number('num_attention_heads');
  const kvHeads = number('num_key_value_heads');
  const headDim = (config.head_dim as number | undefined) ?? number('hidden_size') / heads;
  const u32 = (value: number): GgufValue => ({ type: 'uint32', value });
  const f32 = (value: number): GgufValue => ({ type: 'float32', value });
  const all: Record<string, GgufValue | undefined> = {
    'general.architecture': { type: 'string', value: arch },
    [`${arch}.block_count`]: u32(number('num_hidden_layers')),
    [`${arch}.context_length`]: u32(number('max_position_embeddings')),
    [`${arch}.embedding_length`]: u32(number('hidden_size')),
    [`${arch}.feed_forward_length`]: u32(number('intermediate_size')),
    [`${arch}.attention.head_count`]: u32(heads),
    [`${arch}.attention.head_count_kv`]: u32(kvHeads),
    [`${arch}.attention.layer_norm_rms_epsilon`]: f32(number('rms_norm_eps')),
    [`${arch}.rope.freq_base`]: f32(rope.rope_theta!),
    ...(arch === 'qwen3'
      ? { [`${arch}.attention.key_length`]: u32(headDim), [`${arch}.attention.value_length`]: u32(headDim) }
      : {}),
    ...(rope.rope_type === 'linear'
      ? {
          [`${arch}.rope.scaling.type`]: { type: 'string', value: 'linear' },
          [`${arch}.rope.scaling.factor`]: f32(rope.factor!),
        }
      : {}),
    'tokenizer.ggml.bos_token_id': u32(number('bos_token_id')),
    'tokenizer.ggml.eos_token_id': u32(number('eos_token_id')),
    ...metadata,
  };
  const values = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const { name, shape } of file.tensors.values()) {
    const data = new Float32Array((await file.read(name)).slice().buffer);
    const rows = name.includes('q_proj') ? heads : name.includes('k_proj') ? kvHeads : 0;
    values.set(ggufName(name), { shape, data: arch === 'llama' && rows ? interleave(data, rows, shape[0]!) : data });
  }
  if (rope.rope_type === 'llama3')
    values.set('rope_freqs.weight', { shape: [headDim / 2], data: llama3Factors(rope, headDim) });
  for (const name of leaveOut) values.delete(name);
  const declared = [...values].map(([name, { shape }]) => ({
    name,
    shape,
    type: odd?.name === name ? odd.type : shape.length === 2 ? type : ('F32' as const),
  }));
  const sink = new MemorySink();
  const header: GgufMetadata = new Map(Object.entries(all).filter((e): e is [string, GgufValue] => e[1] !== undefined));
  const writer = new GgufWriter(sink, declared, header);
  for (const { name, byteLength } of writer.tensors)
    await writer.write(name, odd?.name === name ? new Uint8Array(byteLength) : values.get(name)!.data);
  await writer.finish();
  return sink.bytes.slice();
}
