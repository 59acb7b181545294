import { type GgufFile, openGguf } from '@lowrank/formats';
import {
  check,
  DenseWeight,
  type Device,
  type FloatDType,
  isFloat,
  keep,
  type LinearWeight,
  LowrankError,
  sameShape,
  type Tensor,
} from '@lowrank/tensor';
import { ggufWeights } from './checkpoint/gguf.ts';
import { ggufConfigJson } from './checkpoint/gguf-config.ts';
import { safetensorsWeights } from './checkpoint/safetensors.ts';
import type { BlockwiseTensor, StoredWeights } from './checkpoint/stored.ts';
import { upload } from './checkpoint/upload.ts';
import { ConfigReader, type DecoderConfig } from './config.ts';
import { CausalLm, type WeightSource } from './decoder.ts';
import { readConfig } from './families/index.ts';
import { isObject, type ModelFiles, readJson } from './files.ts';

/** A model's configuration, as read and as written. */
export interface ModelConfig {
  readonly config: DecoderConfig;
  /** `config.json`; made from the metadata for a GGUF file. */
  readonly json: Readonly<Record<string, unknown>>;
  /** `quant_method` of the checkpoint, where it is quantized: `bitsandbytes`. */
  readonly quantization?: string;
}

/** Where a load stands. Bytes are those of the file. */
export interface LoadProgress {
  /** The tensor that was loaded last. */
  readonly tensor: string;
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface LoadOptions {
  /** Activations; the backend's preferred dtype by default. */
  readonly computeDtype?: FloatDType;
  /**
   * Storage of dense weights. By default as in the file (f32 for GGUF blocks); f32 where the backend cannot store the file's dtype.
   * Narrower dtypes round to nearest.
   */
  readonly weightDtype?: FloatDType;
  /** Makes the weights of the decoder's linear layers (not of `lm_head`) as they stream in; `values` [out, in] are not its to dispose. */
  readonly quantize?: (name: string, values: Tensor) => Promise<LinearWeight>;
  /** Reads a 4-bit weight of a bitsandbytes checkpoint: `(name, names, read) => fromBnbTensors(device, name, names, read)` of `@lowrank/nf4`. */
  readonly blockwise?: (
    name: string,
    names: { has(name: string): boolean },
    read: (name: string) => Promise<BlockwiseTensor>,
  ) => Promise<LinearWeight>;
  /** Tensors of the checkpoint that the model does not use are an error unless this is set. */
  readonly allowUnused?: boolean;
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Stops the load; everything loaded so far is freed. */
  readonly signal?: AbortSignal;
}

/** Reads the configuration of a model: `config.json` and `generation_config.json`, or a GGUF's metadata. */
export async function loadConfig(files: ModelFiles): Promise<ModelConfig> {
  if (files.gguf === undefined) return folderConfig(files);
  const file = await openGguf(await opened(files, files.gguf));
  try {
    return await ggufConfig(file);
  } finally {
    await file.close();
  }
}

async function ggufConfig(file: GgufFile): Promise<ModelConfig> {
  const json = await ggufConfigJson(file);
  return { config: readConfig(json), json };
}

async function folderConfig(files: ModelFiles): Promise<ModelConfig> {
  const json = await readJson(files, 'config.json');
  const hint = 'Name a folder with config.json and safetensors files, or a .gguf file';
  if (!json) throw new LowrankError('model', 'config.json is not there', files.name, hint);
  const config = readConfig(json);
  const generation = await readJson(files, 'generation_config.json');
  const ends = generation ? new ConfigReader(generation).integers('eos_token_id') : [];
  const method = isObject(json.quantization_config) ? json.quantization_config.quant_method : undefined;
  const quantization = isObject(json.quantization_config) ? String(method ?? 'unknown') : undefined;
  return {
    config: ends.length ? { ...config, eosTokenIds: ends } : config,
    json,
    ...(quantization ? { quantization } : {}),
  };
}

/** The weights and the configuration of a model, from files opened once. */
async function openModel(files: ModelFiles): Promise<ModelConfig & { readonly weights: StoredWeights }> {
  if (files.gguf === undefined) return { ...(await folderConfig(files)), weights: await safetensorsWeights(files) };
  const file = await openGguf(await opened(files, files.gguf));
  try {
    return { ...(await ggufConfig(file)), weights: ggufWeights(file) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Loads a model onto a device, one tensor at a time and in chunks: the host never holds more than a chunk of it. Tied embeddings are one
 * tensor. Throws where a tensor is missing, has the wrong shape or a type that cannot be read, or is not used; nothing stays on the device.
 */
export async function loadModel(device: Device, files: ModelFiles, options: LoadOptions = {}): Promise<CausalLm> {
  const { config, quantization, weights } = await openModel(files);
  try {
    checkOptions(device, files, options, quantization);
    const used = new Set<string>();
    const source = weightSource(device, weights, options, quantization, await progress(weights, options), used);
    const computeDtype = options.computeDtype ?? device.backend.caps.preferredCompute;
    const model = await CausalLm.create(device, config, source, { computeDtype });
    try {
      if (!options.allowUnused) checkAllUsed(weights, used, config);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  } finally {
    await weights.close();
  }
}

async function opened(files: ModelFiles, name: string) {
  const source = await files.open(name);
  check(source, 'model', 'the file is not there', `${name} of ${files.name}`);
  return source;
}

function checkOptions(device: Device, files: ModelFiles, options: LoadOptions, quantization: string | undefined): void {
  const { computeDtype, weightDtype } = options;
  const { dtypes, preferredCompute } = device.backend.caps;
  for (const [name, dtype] of Object.entries({ computeDtype, weightDtype })) {
    check(dtype === undefined || isFloat(dtype), 'load', `${name} must be f32, f16 or bf16`, String(dtype));
  }
  const able = (use: 'store' | 'compute') =>
    Object.keys(dtypes)
      .filter((d) => isFloat(d as FloatDType) && dtypes[d as FloatDType][use])
      .join(', ');
  check(
    !weightDtype || dtypes[weightDtype].store,
    'load',
    'the backend cannot store weightDtype',
    () => `${weightDtype} on ${device.backend.caps.device}`,
    `It stores ${able('store')}`,
  );
  check(
    dtypes[computeDtype ?? preferredCompute].compute,
    'load',
    'the backend cannot compute in computeDtype',
    () => `${computeDtype} on ${device.backend.caps.device}`,
    `It computes in ${able('compute')}`,
  );
  check(
    quantization === undefined || quantization === 'bitsandbytes',
    'load',
    'unknown quantization of a checkpoint',
    () => `${files.name}: quant_method ${quantization}`,
    'Readable are dense checkpoints and 4-bit ones of bitsandbytes',
  );
  check(
    quantization === undefined || options.blockwise,
    'load',
    'a 4-bit checkpoint needs a reader for its weights',
    files.name,
    'Pass fromBnbTensors of @lowrank/nf4: { blockwise: (name, names, read) => fromBnbTensors(device, name, names, read) }',
  );
}

async function progress(
  weights: StoredWeights,
  { onProgress }: LoadOptions,
): Promise<(tensor: string, bytes: number) => void> {
  if (!onProgress) return () => {};
  const totalBytes = await weights.totalBytes();
  let bytes = 0;
  return (tensor, more) => {
    bytes += more;
    onProgress({ tensor, bytes, totalBytes });
  };
}

/** The parts of a 4-bit weight, besides the weight itself. */
const isPart = (name: string) =>
  /\.(weight|bias)\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__\w+)$/.test(name);

function weightSource(
  device: Device,
  weights: StoredWeights,
  options: LoadOptions,
  quantization: string | undefined,
  report: (tensor: string, bytes: number) => void,
  used: Set<string>,
): WeightSource {
  const { quantize, blockwise, signal } = options;
  const { dtypes } = device.backend.caps;
  const storage = (dtype: FloatDType): FloatDType => options.weightDtype ?? (dtypes[dtype].store ? dtype : 'f32');

  const dense = async (
    name: string,
    shape: readonly number[],
    memoryClass: 'weights' | 'workspace',
  ): Promise<Tensor> => {
    signal?.throwIfAborted();
    used.add(name);
    const info = await weights.info(name);
    check(
      sameShape(info.shape, shape),
      'load',
      'a tensor has the wrong shape',
      () => `${name} of ${weights.name}: [${info.shape}], the configuration asks for [${shape}]`,
      'config.json belongs to another model, or the file is damaged',
    );
    const tensor = await upload(
      device,
      weights,
      name,
      memoryClass === 'weights' ? storage(info.dtype) : dtypes[info.dtype].store ? info.dtype : 'f32',
      memoryClass,
      signal,
    );
    report(name, info.byteLength);
    return tensor;
  };

  /** A 4-bit weight, or undefined where the checkpoint holds it dense. */
  const packed = async (name: string, shape: readonly number[]): Promise<LinearWeight | undefined> => {
    if (!blockwise || !weights.has(`${name}.quant_map`)) return undefined;
    signal?.throwIfAborted();
    let bytes = 0;
    const weight = await blockwise(name, weights, async (part) => {
      used.add(part);
      const tensor = await weights.raw(part);
      bytes += tensor.data.byteLength;
      return tensor;
    });
    keep([...weight.tensors().values()]);
    const found = [weight.outFeatures, weight.inFeatures];
    if (!sameShape(found, shape)) {
      weight.dispose();
      throw new LowrankError(
        'load',
        'a tensor has the wrong shape',
        `${name} of ${weights.name}: [${found}], the configuration asks for [${shape}]`,
      );
    }
    report(name, bytes);
    return weight;
  };

  return {
    linear: async (name, shape) => {
      const weight = await packed(name, shape);
      if (weight) return weight;
      // What a quantized checkpoint keeps dense was kept so on purpose.
      if (!quantize || quantization) return new DenseWeight(await dense(name, shape, 'weights'));
      using values = await dense(name, shape, 'workspace');
      const made = await quantize(name, values);
      keep([...made.tensors().values()]);
      return made;
    },
    tensor: async (name, shape) => {
      using weight = shape.length === 2 ? await packed(name, shape) : undefined;
      return weight
        ? device.withClass('weights', () => keep(weight.dequantize(storage('f32'))))
        : dense(name, shape, 'weights');
    },
  };
}

/** A tensor nobody reads means another model than the configuration says: biases, experts, a second head. */
function checkAllUsed(weights: StoredWeights, used: ReadonlySet<string>, config: DecoderConfig): void {
  const ignored = (name: string) =>
    name.endsWith('.rotary_emb.inv_freq') ||
    (config.tieEmbeddings && name.startsWith('lm_head.weight')) ||
    isPart(name);
  const unused = [...weights.names()].filter((name) => !used.has(name) && !ignored(name));
  check(
    unused.length === 0,
    'load',
    'the checkpoint has tensors that the model does not use',
    () => `${weights.name}: ${unused.length}, first ${unused.slice(0, 3).join(', ')}`,
    'config.json may belong to another model; allowUnused loads it all the same',
  );
}
