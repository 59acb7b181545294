import { openCheckpoint, openGguf } from '@lowrank/formats';
import { blobFiles, loadConfig, type ModelFiles, readJson } from '@lowrank/models';
import { hubFiles } from '@lowrank/models/hub';
import { type FloatDType, LowrankError } from '@lowrank/tensor';
import type { ModelChoice } from '../protocol.ts';
import { PrivateFolder } from './opfs.ts';

/** What of a Hugging Face folder is read, besides its weights. */
const small = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
];
/** What the bundled model has of them: asking for others would be errors of the network. */
const bundled = [...small.slice(0, 5), 'model.safetensors'];

const folder = new PrivateFolder('model');
const sourceFile = 'source.json';

/** The files of a chosen model, where they are now. */
export function chosenFiles(choice: ModelChoice): ModelFiles {
  if (choice.kind === 'bundled') return bundledFiles();
  if (choice.kind === 'hub') return hubFiles(choice.id, choice.token ? { token: choice.token } : {});
  const [first] = choice.files;
  if (!first) throw new LowrankError('model', 'no files were chosen', '', 'Choose a folder, or a GGUF file');
  return blobFiles(choice.files, first.webkitRelativePath.split('/')[0] || first.name);
}

/** The bundled model lies beside the page. Fetched once each, kept while the worker lives. */
function bundledFiles(): ModelFiles {
  const fetched = new Map<string, Promise<Blob>>();
  const files = (name: string): Promise<Blob> => {
    let blob = fetched.get(name);
    if (!blob) {
      blob = fetchPart(name);
      fetched.set(name, blob);
      blob.catch(() => fetched.delete(name));
    }
    return blob;
  };
  return {
    name: 'bundled',
    open: async (name) => (bundled.includes(name) ? blobFiles([[name, await files(name)]]).open(name) : undefined),
  };
}

/** A file of `bundled/`, beside the page. */
async function fetchPart(name: string): Promise<Blob> {
  const response = await fetch(new URL(`bundled/${name}`, pageUrl()));
  if (!response.ok)
    throw new LowrankError(
      'model',
      'a bundled file does not come',
      `${name}: status ${response.status}`,
      'Reload the page',
    );
  return response.blob();
}

let page = '';
/** The worker starts from a blob, which has no folder: the page says where it lies. */
export function setPageUrl(url: string): void {
  page = url;
}
function pageUrl(): string {
  return page;
}

/** The names of all files that a model needs. */
async function neededFiles(files: ModelFiles): Promise<string[]> {
  if (files.gguf !== undefined) return [files.gguf];
  const index = await readJson(files, 'model.safetensors.index.json');
  const shards = new Set(Object.values((index?.weight_map ?? {}) as Record<string, string>));
  return [...small, ...(index ? ['model.safetensors.index.json', ...shards] : ['model.safetensors'])];
}

/**
 * Copies a model into the page's private storage, so that a reload can go on with it, and offline. The bundled one is beside the page.
 * Gives the files to load from.
 */
export async function keepModel(
  choice: ModelChoice,
  files: ModelFiles,
  onProgress: (file: string, share: number) => void,
): Promise<ModelFiles> {
  await new PrivateFolder().remove('model');
  if (choice.kind === 'bundled') return files;
  const names: string[] = [];
  for (const name of await neededFiles(files)) {
    const source = await files.open(name);
    if (!source) continue;
    const out = await folder.create(name);
    try {
      const step = 8 << 20;
      for (let at = 0; at < source.size; at += step) {
        out.write(await source.read(at, Math.min(step, source.size - at)));
        onProgress(name, Math.min(1, (at + step) / source.size));
      }
    } finally {
      out.close();
      await source.close?.();
    }
    names.push(name);
  }
  await folder.write(sourceFile, JSON.stringify({ name: files.name, names }));
  return keptFiles();
}

/** The files of the model that was kept. */
async function keptFiles(): Promise<ModelFiles> {
  const source = await folder.json<{ name: string; names: string[] }>(sourceFile);
  if (!source) throw new LowrankError('model', 'the model is no longer in this page’s storage', '', 'Choose it again');
  const files = await Promise.all(source.names.map(async (name) => [name, (await folder.file(name))!] as const));
  return blobFiles(files, source.name);
}

/** The files of the model of a run that is gone on with. */
export async function filesOfRun(kind: ModelChoice['kind']): Promise<ModelFiles> {
  return kind === 'bundled' ? bundledFiles() : keptFiles();
}

/** dtypes in which weights lie, by name, and the bytes of all files. */
export async function storedWeights(
  files: ModelFiles,
): Promise<{ dtypeOf: (name: string) => FloatDType; bytes: number }> {
  const names: Readonly<Record<string, FloatDType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };
  if (files.gguf !== undefined) {
    const source = (await files.open(files.gguf))!;
    const file = await openGguf(source);
    const type = file.tensors.get('token_embd.weight')?.type ?? '';
    await file.close();
    return { dtypeOf: () => names[type] ?? 'f32', bytes: source.size };
  }
  const checkpoint = await openCheckpoint((name) => files.open(name));
  const tensors = await checkpoint.tensors();
  await checkpoint.close();
  const { json } = await loadConfig(files);
  const said = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' }[String(json.torch_dtype ?? json.dtype)] ?? 'f32';
  let bytes = 0;
  for (const { byteLength } of tensors.values()) bytes += byteLength;
  return { dtypeOf: (name) => names[tensors.get(name)?.dtype ?? ''] ?? (said as FloatDType), bytes };
}

/** Files beside the weights, for a model folder that is saved. */
export async function companions(files: ModelFiles): Promise<Map<string, Uint8Array>> {
  const out = new Map<string, Uint8Array>();
  if (files.gguf !== undefined) return out;
  for (const name of small.slice(1)) {
    const source = await files.open(name);
    if (source) out.set(name, await source.read(0, source.size));
    await source?.close?.();
  }
  return out;
}
