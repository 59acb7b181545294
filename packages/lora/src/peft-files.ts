import { type ByteSource, openSafetensors, serializeSafetensors } from '@lowrank/formats';
import { bf16ToF32, decode, f16ToF32, LowrankError, nearest, sameShape } from '@lowrank/tensor';
import { fromPeftJson, type LoraConfig, toPeftJson } from './config.ts';
import type { Adapter, LoraModel } from './model.ts';
import { isRedundant, moduleOfKey, peftTensors } from './peft-keys.ts';

const configFile = 'adapter_config.json';
const weightsFile = 'adapter_model.safetensors';

/** Keys in order, as PEFT writes them. */
function sortedJson(value: Record<string, unknown>): string {
  const sort = (v: unknown): unknown =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(
          Object.entries(v)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([k, x]) => [k, sort(x)]),
        )
      : v;
  return `${JSON.stringify(sort(value), null, 2)}\n`;
}

/** The files of a PEFT adapter folder, by name. */
export async function saveAdapter(lora: LoraModel, name: string): Promise<Map<string, Uint8Array>> {
  const adapter = lora.adapters.get(name);
  if (!adapter)
    throw new LowrankError('lora', 'no such adapter', name, `There: ${[...lora.adapters.keys()].join(', ') || 'none'}`);
  const data: Record<string, { dtype: 'F32'; shape: readonly number[]; data: Float32Array }> = {};
  for (const [key, t] of peftTensors(lora, adapter))
    data[key] = { dtype: 'F32', shape: t.shape, data: (await t.toArray()) as Float32Array };
  const text = new TextEncoder();
  return new Map([
    [configFile, text.encode(sortedJson(toPeftJson(writtenConfig(adapter))))],
    [weightsFile, serializeSafetensors(data, { format: 'pt' })],
    ['README.md', text.encode(card(adapter.config))],
  ]);
}

/** PEFT takes no `layers_to_transform` beside a regular expression or `all-linear`: the modules are listed then. */
function writtenConfig({ config, pairs }: Adapter): LoraConfig {
  if (typeof config.targetModules !== 'string' || !config.layersToTransform) return config;
  const { layersToTransform: _, layersPattern: __, ...rest } = config;
  return { ...rest, targetModules: [...pairs.keys()] };
}

function card(config: LoraConfig): string {
  const base = config.baseModelNameOrPath;
  return `---\n${base ? `base_model: ${JSON.stringify(base)}\n` : ''}library_name: peft\ntags:\n- lora\n---\n\nA LoRA adapter (r ${config.r}, alpha ${config.loraAlpha})${base ? ` for ${base}` : ''}, trained with lowrank. Load it with PEFT: \`PeftModel.from_pretrained(base, folder)\`.\n`;
}

/** Access to the files of an adapter folder. */
export interface AdapterFiles {
  /** The whole of a small file. */
  text(name: string): Promise<string>;
  open(name: string): Promise<ByteSource>;
}

/** Files that are in memory, by name. */
export function adapterFiles(files: ReadonlyMap<string, Uint8Array>): AdapterFiles {
  const get = (name: string) => {
    const bytes = files.get(name);
    if (!bytes) throw new LowrankError('adapter', 'a file is missing', name, `There: ${[...files.keys()].join(', ')}`);
    return bytes;
  };
  return {
    text: async (name) => new TextDecoder().decode(get(name)),
    open: async (name) => {
      const bytes = get(name);
      return {
        name,
        size: bytes.byteLength,
        read: async (offset: number, length: number) => bytes.subarray(offset, offset + length),
      };
    },
  };
}

/**
 * Adds the adapter that a PEFT folder holds. Every key of the file must find its place, every weight must be there, and every shape must
 * fit; otherwise the error names the keys, the shapes and the nearest modules, and nothing is added.
 */
export async function loadAdapter(
  lora: LoraModel,
  files: AdapterFiles,
  options: { name?: string } = {},
): Promise<Adapter> {
  const { name = 'default' } = options;
  let json: unknown;
  try {
    json = JSON.parse(await files.text(configFile));
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new LowrankError('adapter', 'adapter_config.json is not JSON', error.message);
    throw error;
  }
  const adapter = lora.addAdapter(name, fromPeftJson(json), { lenient: true });
  try {
    const file = await openSafetensors(await files.open(weightsFile));
    try {
      const wanted = peftTensors(lora, adapter);
      const list = (keys: string[]) =>
        `${keys.slice(0, 5).join(', ')}${keys.length > 5 ? ` and ${keys.length - 5} more` : ''}`;
      const extra = [...file.tensors.keys()].filter((k) => !wanted.has(k) && !isRedundant(k));
      if (extra.length)
        throw new LowrankError(
          'adapter',
          'keys find no place in this model',
          list(extra),
          `Nearest modules: ${nearest(moduleOfKey(extra[0]!), [...wanted.keys()].map(moduleOfKey)).join(', ')}. Is it an adapter for another base?`,
        );
      const missing = [...wanted.keys()].filter((k) => !file.tensors.has(k));
      if (missing.length) throw new LowrankError('adapter', 'weights are missing from the file', list(missing));
      const wrong = [...wanted]
        .filter(([k, t]) => !sameShape(file.tensors.get(k)!.shape, t.shape))
        .map(([k, t]) => `${k} [${file.tensors.get(k)!.shape}], expected [${t.shape}]`);
      if (wrong.length)
        throw new LowrankError(
          'adapter',
          'shapes do not fit this model',
          list(wrong),
          'Is it an adapter for another base?',
        );
      for (const [key, t] of wanted)
        lora.device.write(t, toF32(await file.read(key), file.tensors.get(key)!.dtype, key));
    } finally {
      await file.close?.();
    }
  } catch (error) {
    lora.deleteAdapter(name);
    throw error;
  }
  return adapter;
}

function toF32(bytes: Uint8Array, dtype: string, key: string): Float32Array {
  const aligned = new Uint8Array(bytes);
  if (dtype === 'F32') return decode(aligned, 'f32') as Float32Array;
  if (dtype === 'F16') return f16ToF32(new Uint16Array(aligned.buffer));
  if (dtype === 'BF16') return bf16ToF32(new Uint16Array(aligned.buffer));
  throw new LowrankError('adapter', 'a weight must be F32, F16 or BF16', `${key}: ${dtype}`);
}
