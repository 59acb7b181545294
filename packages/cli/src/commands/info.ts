import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { openSafetensors } from '@lowrank/formats';
import { fileSource } from '@lowrank/formats/node';
import { fromPeftJson } from '@lowrank/lora';
import { loadConfig, loadTokenizer } from '@lowrank/models';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { bytes, count, table } from '../report/format.ts';
import { probeBackends, probeNccl } from '../run/backend.ts';
import { hasWeights, modelFiles, runSettings, storedDtypes } from '../run/files.ts';
import { version } from '../version.ts';

type Facts = Record<string, unknown>;

/** `lowrank info`: this machine's backends; with a path, what lies there. */
export async function info(settings: Settings, ui: Console): Promise<number> {
  const { model: path } = settings;
  const facts =
    path === undefined
      ? await machine()
      : existsSync(join(path, 'adapter_config.json'))
        ? await adapterFacts(path)
        : await modelFacts(path, settings, ui);
  ui.emit(facts);
  if (!ui.json) ui.say(table(rows(facts), ''));
  return 0;
}

async function machine(): Promise<Facts> {
  const nccl = await probeNccl();
  return {
    lowrank: await version(),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processors: cpus().length,
    memory: bytes(totalmem()),
    backends: await probeBackends(),
    ...(nccl ? { nccl } : {}),
  };
}

function rows(facts: Facts): string[][] {
  return Object.entries(facts).flatMap(([name, value]) => {
    if (name !== 'backends') return [[name.padEnd(14) + shown(value)]];
    return (value as Awaited<ReturnType<typeof probeBackends>>).flatMap((b) => [
      [
        `${b.name.padEnd(14)}${b.available ? `${b.facts}${b.features.length ? ` [${b.features.join(', ')}]` : ''}` : `not here: ${b.facts}`}`,
      ],
      ...[...limitLines(b.limits), ...b.refused.map((r) => `refused: ${r}`)].map((line) => [' '.repeat(14) + line]),
    ]);
  });
}

/** Limits, three a line, sizes in bytes with a unit. */
function limitLines(limits: Readonly<Record<string, number>>): string[] {
  const all = Object.entries(limits).map(
    ([name, value]) => `${name} ${/(Size|Bytes)$/.test(name) ? bytes(value) : value}`,
  );
  return Array.from({ length: Math.ceil(all.length / 3) }, (_, i) => all.slice(3 * i, 3 * i + 3).join(', '));
}

const shown = (value: unknown): string =>
  Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : String(value);

async function modelFacts(path: string, settings: Settings, ui: Console): Promise<Facts> {
  const files = await modelFiles(path, settings, ui);
  const { config, json, quantization } = await loadConfig(files);
  const weights = await hasWeights(files);
  const tokenizer = await loadTokenizer(files).catch(() => undefined);
  const linear =
    config.layers *
    (config.hiddenSize * config.headDim * (2 * config.heads + 2 * config.kvHeads) +
      3 * config.hiddenSize * config.intermediateSize);
  const tables = config.vocabSize * config.hiddenSize * (config.tieEmbeddings ? 1 : 2);
  return {
    model: files.name,
    family: config.modelType,
    parameters: `about ${count(linear + tables)}`,
    layers: config.layers,
    hiddenSize: config.hiddenSize,
    heads: `${config.heads} (${config.kvHeads} of keys and values), ${config.headDim} wide`,
    vocabulary: config.vocabSize,
    context: config.maxPositions,
    weights: weights
      ? `${quantization ?? (await storedDtypes(files, json))('model.embed_tokens.weight')}${files.gguf ? ' (GGUF)' : ''}`
      : 'not here, the configuration alone',
    tokenizer: tokenizer
      ? `${tokenizer.vocabSize} tokens, ${tokenizer.hasChatTemplate ? 'with' : 'no'} chat template`
      : 'none',
  };
}

async function adapterFacts(path: string): Promise<Facts> {
  const config = fromPeftJson(JSON.parse(await readFile(join(path, 'adapter_config.json'), 'utf8')));
  const source = await fileSource(join(path, 'adapter_model.safetensors'));
  const file = await openSafetensors(source);
  let numbers = 0;
  for (const t of file.tensors.values()) numbers += t.shape.reduce((a, b) => a * b, 1);
  const tensors = file.tensors.size;
  await file.close?.();
  const run = await runSettings(path);
  return {
    adapter: path,
    base: config.baseModelNameOrPath ?? 'not named',
    r: config.r,
    loraAlpha: config.loraAlpha,
    loraDropout: config.loraDropout,
    targetModules: config.targetModules,
    trained: `${count(numbers)} numbers in ${tensors} tensors`,
    ...(run.method ? { method: run.method } : {}),
  };
}
