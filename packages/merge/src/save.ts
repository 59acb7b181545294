import { type FileSink, type SafetensorsDeclaration, type SafetensorsDtype, saveCheckpoint } from '@lowrank/formats';
import {
  Embedding,
  type FloatDType,
  keep,
  Linear,
  type LinearWeight,
  LowrankError,
  type Module,
  noGrad,
  scope,
  type Tensor,
} from '@lowrank/tensor';

/** One stored tensor: raw little-endian bytes. */
export interface StoredTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export interface SaveModelOptions {
  /** Of dense weights; `bf16` by default. */
  readonly dtype?: FloatDType;
  /**
   * Stores quantized weights as they are: gives the tensors of one by full name (`toBnbTensors` of @lowrank/nf4). Without it they are
   * written dense.
   */
  readonly quantized?: (name: string, weight: LinearWeight) => Promise<ReadonlyMap<string, StoredTensor>>;
  /** The base model's parsed config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly maxShardBytes?: number;
  readonly onTensor?: (name: string) => void;
}

const stored: Readonly<Record<FloatDType, SafetensorsDtype>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };
const torchNames: Readonly<Record<FloatDType, string>> = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' };

interface Item {
  readonly name: string;
  readonly weight: Tensor | LinearWeight;
}

/** Weights by checkpoint name. An output head that shares the embedding's table is left out, as Hugging Face does. */
function items(model: Module): { list: Item[]; tied: boolean } {
  const list: Item[] = [];
  const tables = new Set<Tensor>();
  let tied = false;
  for (const [path, m] of model.namedModules()) {
    if (m instanceof Embedding) tables.add(m.weight);
    if (m instanceof Linear) {
      const own = m.weight.tensors().get('')!;
      if (tables.has(own)) tied = true;
      else list.push({ name: `${path}.weight`, weight: m.weight });
      if (m.bias) list.push({ name: `${path}.bias`, weight: m.bias });
    } else for (const [name, t] of m.own()) list.push({ name: path ? `${path}.${name}` : name, weight: t });
  }
  return { list, tied };
}

async function bytesOf(item: Item, dtype: FloatDType): Promise<Uint8Array> {
  const t = keep(
    noGrad(() =>
      scope(() => ('tensors' in item.weight ? item.weight.dequantize(dtype) : item.weight.detach().cast(dtype))),
    ),
  );
  try {
    return await t.bytes();
  } finally {
    t.dispose();
  }
}

/**
 * Writes a model as Hugging Face does (config.json, safetensors, shards with an index where it is large), one tensor at a time.
 * `open` makes a file of the folder (`folderSinks` of @lowrank/formats/node). Adapters must be merged first.
 */
export async function saveModel(
  model: Module,
  open: (fileName: string) => Promise<FileSink>,
  options: SaveModelOptions,
): Promise<string[]> {
  const { dtype = 'bf16', quantized } = options;
  const { list, tied } = items(model);
  for (const [path, m] of model.namedModules())
    if ((m instanceof Linear || m instanceof Embedding) && m.adapter)
      throw new LowrankError('save', 'an adapter is still attached', path, 'Merge it or disable it first');
  const byName = new Map<string, () => Promise<Uint8Array>>();
  const declarations: SafetensorsDeclaration[] = [];
  let quantConfig: Record<string, unknown> | undefined;
  for (const item of list) {
    const { name, weight } = item;
    if ('tensors' in weight && weight.format !== 'dense' && quantized) {
      const parts = await quantized(name, weight);
      const operand = weight.operand();
      if ('attrs' in operand)
        quantConfig ??= {
          _load_in_4bit: true,
          _load_in_8bit: false,
          bnb_4bit_compute_dtype: torchNames[dtype],
          bnb_4bit_quant_storage: 'uint8',
          bnb_4bit_quant_type: operand.attrs.quantType,
          bnb_4bit_use_double_quant: operand.quant.nestedAbsmax !== undefined,
          llm_int8_enable_fp32_cpu_offload: false,
          llm_int8_has_fp16_weight: false,
          llm_int8_skip_modules: ['lm_head'],
          llm_int8_threshold: 6.0,
          load_in_4bit: true,
          load_in_8bit: false,
          quant_method: 'bitsandbytes',
        };
      // parts are small enough to be made twice: once for the header, once for the data
      for (const [part, { dtype: d, shape }] of parts) {
        declarations.push({ name: part, dtype: d, shape });
        byName.set(part, async () => (await quantized(name, weight)).get(part)!.data);
      }
    } else {
      declarations.push({
        name,
        dtype: stored[dtype],
        shape: 'tensors' in weight ? [weight.outFeatures, weight.inFeatures] : weight.shape,
      });
      byName.set(name, () => bytesOf(item, dtype));
    }
  }
  const { quantization_config: _old, ...rest } = options.config;
  const config: Record<string, unknown> = {
    ...rest,
    tie_word_embeddings: tied,
    ...('torch_dtype' in rest ? { torch_dtype: torchNames[dtype] } : { dtype: torchNames[dtype] }),
    ...(quantConfig ? { quantization_config: quantConfig } : {}),
  };
  const { files } = await saveCheckpoint(
    open,
    declarations,
    async (t) => {
      options.onTensor?.(t.name);
      return byName.get(t.name)!();
    },
    options.maxShardBytes ? { maxShardBytes: options.maxShardBytes } : {},
  );
  const sink = await open('config.json');
  try {
    // transformers refuses an integer here
    const json = JSON.stringify(config, null, 2).replace('"llm_int8_threshold": 6,', '"llm_int8_threshold": 6.0,');
    await sink.write(new TextEncoder().encode(`${json}\n`));
    await sink.commit();
  } catch (error) {
    await sink.abort();
    throw error;
  }
  return [...files, 'config.json'];
}
