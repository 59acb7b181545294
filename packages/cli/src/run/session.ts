import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LoraModel } from '@lowrank/lora';
import { loadAdapterFolder } from '@lowrank/lora/node';
import {
  type CausalLm,
  loadConfig,
  loadModel,
  loadTokenizer,
  type ModelConfig,
  type ModelFiles,
  type Tokenizer,
} from '@lowrank/models';
import { BlockwiseWeight, fromBnbTensors } from '@lowrank/nf4';
import { type Backend, Device, type FloatDType, LowrankError } from '@lowrank/tensor';
import { flagOf, type Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, percent } from '../report/format.ts';
import { openBackend } from './backend.ts';
import { baseOf, modelFiles, runSettings } from './files.ts';

export type Method = 'lora' | 'qlora' | 'full';

/** Which model a command is about, before anything of it is loaded. */
export interface Subject {
  readonly spec: string;
  readonly files: ModelFiles;
  readonly config: ModelConfig;
  readonly method: Method;
  /** Settings with what the adapter's own run says of the base. */
  readonly settings: Settings;
}

/** Finds the model: named, or the base that the adapter names. The method is the one given, or that of the adapter's run. */
export async function findSubject(settings: Settings, ui: Console): Promise<Subject> {
  const [first] = settings.adapter ?? [];
  for (const folder of settings.adapter ?? [])
    if (!existsSync(join(folder, 'adapter_config.json')))
      throw new LowrankError(
        'adapter',
        'no adapter is there',
        `${folder} has no adapter_config.json`,
        existsSync(join(folder, 'config.json'))
          ? 'It is a whole model: give it as --model'
          : 'Name the folder that train wrote',
      );
  const run = first ? await runSettings(first) : {};
  const spec = settings.model ?? (first ? (run.model ?? (await baseOf(first))) : undefined);
  if (spec === undefined)
    throw new LowrankError(
      'model',
      '--model is needed',
      '',
      first ? 'The adapter does not name its base' : 'A folder, a .gguf file, a hub id, or "bundled"',
    );
  const files = await modelFiles(spec, settings, ui);
  const config = await loadConfig(files);
  return {
    spec,
    files,
    config,
    method: settings.method ?? run.method ?? 'lora',
    settings: {
      ...settings,
      quantType: settings.quantType ?? run.quantType,
      blockSize: settings.blockSize ?? run.blockSize,
      doubleQuant: settings.doubleQuant ?? run.doubleQuant,
    },
  };
}

/** Throws where options of 4-bit weights are given and none are made. */
export function checkQuantization({ config, method, spec }: Subject, given: Settings): void {
  const names = (['quantType', 'blockSize', 'doubleQuant'] as const).filter((name) => given[name] !== undefined);
  if (!names.length) return;
  const flags = names.map(flagOf).join(', ');
  if (config.quantization)
    throw new LowrankError('model', 'the checkpoint is quantized already', `${spec}: ${flags}`, 'Leave them out');
  if (method !== 'qlora')
    throw new LowrankError(
      'model',
      'options of 4-bit weights go with --method qlora',
      `${flags}, --method ${method}`,
      'Leave them out, or load the base in 4 bits: --method qlora',
    );
}

/** Paths that a run reads its model and adapters from. */
export function inputsOf({ spec, settings }: Subject): string[] {
  return [spec, ...(settings.adapter ?? [])];
}

/** dtype that dense weights are stored in; undefined: as in the file. All weights in training are f32 unless said. */
export function weightDtype(method: Method, dtype: Settings['dtype']): FloatDType | undefined {
  if (dtype !== undefined && dtype !== 'auto') return dtype;
  return method === 'full' ? 'f32' : undefined;
}

export function computeDtype(backend: Backend, dtype: Settings['dtype']): FloatDType {
  return dtype === undefined || dtype === 'auto' ? backend.caps.preferredCompute : dtype;
}

export function quantOptions({ quantType = 'nf4', blockSize = 64, doubleQuant = true }: Settings) {
  return { quantType, blockSize, doubleQuant };
}

/** Loads the weights of a subject, in 4 bits where the method is QLoRA. */
export async function loadWeights(
  device: Device,
  subject: Subject,
  ui: Console,
  signal?: AbortSignal,
): Promise<CausalLm> {
  const { files, method, settings } = subject;
  const start = performance.now();
  const quant = quantOptions(settings);
  const stored = weightDtype(method, settings.dtype);
  const model = await loadModel(device, files, {
    computeDtype: computeDtype(device.backend, settings.dtype),
    ...(stored ? { weightDtype: stored } : {}),
    ...(method === 'qlora' ? { quantize: (_, values) => BlockwiseWeight.quantize(values, quant) } : {}),
    blockwise: (name, names, read) => fromBnbTensors(device, name, names, read),
    onProgress: ({ bytes: done, totalBytes }) => ui.status(`loading ${files.name}: ${percent(done / totalBytes, 0)}`),
    ...(signal ? { signal } : {}),
  });
  ui.clear();
  const seconds = (performance.now() - start) / 1000;
  ui.note(
    `loaded ${files.name} on ${device.backend.name} in ${seconds.toFixed(1)} s: ${bytes(device.memory().liveByClass.weights)} of weights${method === 'qlora' ? ` (${quant.quantType})` : ''}`,
  );
  return model;
}

/** A model on a device, with its tokenizer and adapters. Disposing it closes the device. */
export interface Session extends AsyncDisposable {
  readonly subject: Subject;
  readonly device: Device;
  readonly model: CausalLm;
  readonly tokenizer: Tokenizer;
  readonly lora: LoraModel | undefined;
}

export interface SessionOptions {
  /** Loads the base in 4 bits, whatever the settings say. */
  readonly quantized?: boolean;
  /** Sees which model it is before anything of it is loaded. */
  readonly check?: (subject: Subject) => void | Promise<void>;
  /** Reads what the weights are wanted for: its mistakes show before they are loaded. */
  readonly read?: (subject: Subject, tokenizer: Tokenizer) => Promise<void>;
}

/** Opens backend, model and adapters as the settings say. */
export async function openSession(settings: Settings, ui: Console, options: SessionOptions = {}): Promise<Session> {
  const found = await findSubject(settings, ui);
  const subject = options.quantized ? { ...found, method: 'qlora' as const } : found;
  checkQuantization(subject, settings);
  await options.check?.(subject);
  const tokenizer = await loadTokenizer(subject.files);
  await options.read?.(subject, tokenizer);
  await using stack = new AsyncDisposableStack();
  const device = stack.use(new Device(await openBackend(settings.backend, settings)));
  const model = stack.use(await loadWeights(device, subject, ui));
  const lora = settings.adapter?.length ? stack.use(await attachAdapters(model, device, settings.adapter)) : undefined;
  const held = stack.move();
  return { subject, device, model, tokenizer, lora, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** Adds adapter folders to a model; together their updates add up. */
export async function attachAdapters(
  model: CausalLm,
  device: Device,
  folders: readonly string[],
): Promise<LoraModel<CausalLm>> {
  const lora = new LoraModel(model, device);
  try {
    const names = folders.length === 1 ? ['default'] : folders.map((_, i) => `adapter${i + 1}`);
    for (const [i, folder] of folders.entries()) await loadAdapterFolder(lora, folder, { name: names[i]! });
    lora.setAdapter(names);
    return lora;
  } catch (error) {
    lora.dispose();
    throw error;
  }
}
