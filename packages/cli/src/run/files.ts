import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { openCheckpoint, openGguf } from '@lowrank/formats';
import { fileSource } from '@lowrank/formats/node';
import type { ModelFiles } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { type FloatDType, LowrankError } from '@lowrank/tensor';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, percent } from '../report/format.ts';
import { bundledFolder } from './bundled.ts';

const hubId = /^[\w-][\w.-]*\/[\w-][\w.-]*$/;

/** The files of a model: a folder, a .gguf file, a config.json alone, "bundled", or a hub id (downloaded once, then kept). */
export async function modelFiles(spec: string, options: Pick<Settings, 'revision'>, ui: Console): Promise<ModelFiles> {
  if (spec === 'bundled') return folderFiles(join(bundledFolder(), 'model'));
  if (existsSync(spec)) {
    if (statSync(spec).isFile() && spec.endsWith('.json')) return configAlone(spec);
    return folderFiles(spec);
  }
  if (!hubId.test(spec))
    throw new LowrankError(
      'model',
      'the folder or file is not there',
      spec,
      'Give the path of a Hugging Face folder or of a .gguf file, a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct, or "bundled"',
    );
  const { cachedHubFiles } = await import('@lowrank/models/node/hub');
  return cachedHubFiles(spec, {
    ...(options.revision ? { revision: options.revision } : {}),
    ...(process.env.HF_TOKEN ? { token: process.env.HF_TOKEN } : {}),
    ...(process.env.HF_ENDPOINT ? { endpoint: process.env.HF_ENDPOINT } : {}),
    onProgress: ({ file, bytes: done, totalBytes }) =>
      ui.status(`downloading ${file}: ${bytes(done)}, ${percent(done / totalBytes, 0)}`),
  });
}

/** A model of which only the configuration is there: enough for a plan. */
function configAlone(path: string): ModelFiles {
  const name = basename(path);
  return {
    name: dirname(path) === '.' ? name : path,
    open: async (file) => (file === 'config.json' ? fileSource(path) : undefined),
  };
}

/** Are weights there, or a configuration alone? */
export async function hasWeights(files: ModelFiles): Promise<boolean> {
  if (files.gguf !== undefined) return true;
  for (const name of ['model.safetensors', 'model.safetensors.index.json']) {
    const source = await files.open(name);
    await source?.close?.();
    if (source) return true;
  }
  return false;
}

/** dtypes in which a model's weights lie, by name; those of its configuration where only that is there. */
export async function storedDtypes(
  files: ModelFiles,
  json: Readonly<Record<string, unknown>>,
): Promise<(name: string) => FloatDType> {
  const names: Readonly<Record<string, FloatDType>> = {
    F32: 'f32',
    F16: 'f16',
    BF16: 'bf16',
    float32: 'f32',
    float16: 'f16',
    bfloat16: 'bf16',
  };
  if (files.gguf !== undefined) {
    const file = await openGguf((await files.open(files.gguf))!);
    const type = file.tensors.get('token_embd.weight')?.type ?? '';
    await file.close();
    return () => names[type] ?? 'f32';
  }
  const said = names[String(json.torch_dtype ?? json.dtype)] ?? 'f32';
  if (!(await hasWeights(files))) return () => said;
  const checkpoint = await openCheckpoint((name) => files.open(name));
  const tensors = await checkpoint.tensors();
  await checkpoint.close();
  return (name) => names[tensors.get(name)?.dtype ?? ''] ?? said;
}

/** What `train` wrote about itself into an adapter's folder, or the one above a checkpoint; empty for adapters of other programs. */
export async function runSettings(adapterFolder: string): Promise<Partial<Settings>> {
  const checkpoint = /^checkpoint-\d+$/.test(basename(resolve(adapterFolder)));
  for (const folder of checkpoint ? [adapterFolder, join(adapterFolder, '..')] : [adapterFolder]) {
    const path = join(folder, 'lowrank.json');
    if (!existsSync(path)) continue;
    try {
      return JSON.parse(await readFile(path, 'utf8')) as Partial<Settings>;
    } catch (cause) {
      throw new LowrankError(
        'adapter',
        'the settings of its run cannot be read',
        `${path}: ${(cause as Error).message}`,
        '',
        {
          cause,
        },
      );
    }
  }
  return {};
}

/** `base_model_name_or_path` of an adapter folder. */
export async function baseOf(adapterFolder: string): Promise<string | undefined> {
  try {
    const json = JSON.parse(await readFile(join(adapterFolder, 'adapter_config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    return typeof json.base_model_name_or_path === 'string' ? json.base_model_name_or_path : undefined;
  } catch {
    return undefined;
  }
}
