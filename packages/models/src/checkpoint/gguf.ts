import {
  blockOf,
  dequantizeBlocks,
  type GgufFile,
  type GgufTensor,
  type GgufType,
  isDequantizable,
} from '@lowrank/formats';
import { check, type FloatDType, LowrankError } from '@lowrank/tensor';
import type { StoredWeights } from './stored.ts';

/** GGUF name of a block's part → its Hugging Face name. */
const parts: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  ffn_norm: 'post_attention_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const outer: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

/** Rotation factors of a long context: part of the configuration, no weight. */
export const ropeFactorsName = 'rope_freqs.weight';

/** `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; the name itself where it has no counterpart. */
function huggingFaceName(gguf: string): string {
  const match = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(gguf);
  const part = match && parts[match[2]!];
  return part ? `model.layers.${match[1]}.${part}.${match[3]}` : (outer[gguf] ?? gguf);
}

const direct: Partial<Record<GgufType, FloatDType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/**
 * The weights of a GGUF file under Hugging Face names. Quantized blocks become f32 values. Files of the architecture `llama` hold the
 * rows of q and k with the two halves of each head interleaved, as ggml's rotation wants them; they are put back in order here.
 */
export function ggufWeights(file: GgufFile): StoredWeights {
  const places = new Map(
    [...file.tensors.values()].filter(({ name }) => name !== ropeFactorsName).map((t) => [huggingFaceName(t.name), t]),
  );
  const interleaved = file.string('general.architecture') === 'llama';
  const find = (name: string): GgufTensor => places.get(name) ?? file.tensor(ggufName(name));
  const heads = (name: string): number => {
    const key = name.includes('.q_proj.') ? 'head_count' : name.includes('.k_proj.') ? 'head_count_kv' : undefined;
    return interleaved && key ? file.number(`llama.attention.${key}`, file.number('llama.attention.head_count')) : 0;
  };
  return {
    name: file.name,
    names: () => places.keys(),
    totalBytes: async () => [...places.values()].reduce((sum, t) => sum + t.byteLength, 0),
    has: (name) => places.has(name),
    info: async (name) => {
      const { shape, type, byteLength, byteOffset } = find(name);
      if (isDequantizable(type)) return { shape, dtype: direct[type] ?? 'f32', byteLength };
      throw new LowrankError(
        'load',
        'the GGUF tensor type cannot be read',
        `${name} (${find(name).name}) is ${type}, ${file.name} byte ${byteOffset}`,
        'Use a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K, or convert it with llama-quantize --allow-requantize',
      );
    },
    stream: (name) => (heads(name) ? streamHeads(file, find(name), heads(name)) : streamValues(file, find(name))),
    raw: async (name) => {
      throw new LowrankError('load', 'a GGUF file has no bitsandbytes weights', `${name} of ${file.name}`);
    },
    close: () => file.close(),
  };
}

/** The name in the file that a Hugging Face name would have, for the error that it is not there. */
function ggufName(name: string): string {
  const whole = Object.keys(outer).find((k) => outer[k] === name);
  if (whole) return whole;
  const match = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  const part = match && Object.keys(parts).find((k) => parts[k] === match[2]);
  return part ? `blk.${match[1]}.${part}.${match[3]}` : name;
}

const bytesOf = (x: Float32Array | Uint8Array) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

async function* streamValues(file: GgufFile, { name, type }: GgufTensor): AsyncGenerator<Uint8Array, void, undefined> {
  if (direct[type]) yield* file.lend(name);
  else for await (const values of file.streamF32(name)) yield bytesOf(values);
}

/** Values of a q or k tensor a head at a time, rows 0, 2, 4 … 1, 3, 5 … of each. */
async function* streamHeads(
  file: GgufFile,
  tensor: GgufTensor,
  heads: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { name, type, shape, byteLength } = tensor;
  const rows = shape[0]! / heads;
  check(
    Number.isInteger(rows) && rows % 2 === 0,
    'load',
    'the rows must be heads of an even width',
    () => `${name}: [${shape}], ${heads} heads`,
  );
  const headBytes = byteLength / heads;
  check(
    headBytes % blockOf(type).bytes === 0,
    'load',
    'a head must be whole blocks',
    () => `${name}: [${shape}] ${type}`,
  );
  for (let head = 0; head < heads; head++) {
    const bytes = await file.read(name, head * headBytes, (head + 1) * headBytes);
    const values = direct[type] ? bytes : bytesOf(dequantizeBlocks(type, bytes));
    yield deinterleave(values, rows);
  }
}

/** Rows 0, 2, 4 … and then 1, 3, 5 … of `rows` rows of equal length. */
function deinterleave(bytes: Uint8Array, rows: number): Uint8Array {
  const row = bytes.byteLength / rows;
  const out = new Uint8Array(bytes.byteLength);
  for (let r = 0; r < rows; r++) {
    const from = r < rows / 2 ? 2 * r : 2 * (r - rows / 2) + 1;
    out.set(bytes.subarray(from * row, (from + 1) * row), r * row);
  }
  return out;
}
