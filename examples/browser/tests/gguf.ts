import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bf16ToF32, bytesSource, type GgufMetadata, GgufWriter, MemorySink, openSafetensors } from '@lowrank/formats';

const names: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
};
const outside: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
};

/** A folder with a Llama model, as the GGUF file that llama.cpp's converter would make of it. */
export async function folderGguf(folder: string): Promise<Uint8Array> {
  const json = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
  const [config, tokenizer, settings] = ['config.json', 'tokenizer.json', 'tokenizer_config.json'].map(json);
  const file = await openSafetensors(bytesSource(new Uint8Array(readFileSync(join(folder, 'model.safetensors')))));
  const heads = { attn_q: config.num_attention_heads, attn_k: config.num_key_value_heads } as Record<string, number>;
  const values = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const { name, shape } of file.tensors.values()) {
    const raw = (await file.read(name)).slice();
    const data = bf16ToF32(new Uint16Array(raw.buffer));
    const [, layer, part] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
    const own = part && names[part];
    const rows = own ? heads[own] : undefined;
    values.set(own ? `blk.${layer}.${own}.weight` : outside[name]!, {
      shape,
      data: rows ? interleave(data, rows, shape[0]!) : data,
    });
  }
  const { vocab, merges } = tokenizer.model as { vocab: Record<string, number>; merges: (string | [string, string])[] };
  const added = tokenizer.added_tokens as { id: number; content: string }[];
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  for (const { id, content } of added) tokens[id] = content;
  const special = new Set(added.map(({ id }) => id));
  const u32 = (value: number) => ({ type: 'uint32', value }) as const;
  const f32 = (value: number) => ({ type: 'float32', value }) as const;
  const text = (value: string) => ({ type: 'string', value }) as const;
  const metadata: GgufMetadata = new Map(
    Object.entries({
      'general.architecture': text('llama'),
      'llama.block_count': u32(config.num_hidden_layers),
      'llama.context_length': u32(config.max_position_embeddings),
      'llama.embedding_length': u32(config.hidden_size),
      'llama.feed_forward_length': u32(config.intermediate_size),
      'llama.attention.head_count': u32(config.num_attention_heads),
      'llama.attention.head_count_kv': u32(config.num_key_value_heads),
      'llama.attention.layer_norm_rms_epsilon': f32(config.rms_norm_eps),
      'llama.rope.freq_base': f32(config.rope_theta),
      'tokenizer.ggml.model': text('gpt2'),
      'tokenizer.ggml.pre': text('smollm'),
      'tokenizer.ggml.tokens': { type: 'array', itemType: 'string', value: tokens },
      'tokenizer.ggml.token_type': {
        type: 'array',
        itemType: 'int32',
        value: Int32Array.from(tokens, (_, id) => (special.has(id) ? 3 : 1)),
      },
      'tokenizer.ggml.merges': {
        type: 'array',
        itemType: 'string',
        value: merges.map((m) => (typeof m === 'string' ? m : m.join(' '))),
      },
      'tokenizer.ggml.eos_token_id': u32(config.eos_token_id),
      'tokenizer.ggml.padding_token_id': u32(config.pad_token_id),
      'tokenizer.chat_template': text(settings.chat_template),
    }),
  ) as GgufMetadata;
  const declared = [...values].map(([name, { shape }]) => ({
    name,
    shape,
    type: shape.length === 2 ? ('Q8_0' as const) : ('F32' as const),
  }));
  const sink = new MemorySink();
  const writer = new GgufWriter(sink, declared, metadata);
  for (const { name } of writer.tensors) await writer.write(name, values.get(name)!.data);
  await writer.finish();
  return sink.bytes.slice();
}

/** Rows of each head with their halves interleaved, as that architecture has them in such a file. */
function interleave(values: Float32Array, heads: number, rows: number): Float32Array {
  const width = values.length / rows;
  const half = rows / heads / 2;
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const [head, at] = [Math.floor(row / (2 * half)), row % (2 * half)];
    const to = head * 2 * half + (at % half) * 2 + Math.floor(at / half);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}
