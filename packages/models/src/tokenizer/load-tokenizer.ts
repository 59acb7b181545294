import { openGguf } from '@lowrank/formats';
import { LowrankError } from '@lowrank/tensor';
import { ConfigReader } from '../config.ts';
import { isObject, type ModelFiles, readJson, readText } from '../files.ts';
import { templateSources } from './chat-template.ts';
import { type GgufTokenizerOptions, ggufTokenizer } from './gguf-tokenizer.ts';
import { Tokenizer } from './tokenizer.ts';

/** Loads the tokenizer of a model: `tokenizer.json` and what stands beside it, or what a GGUF file carries. */
export async function loadTokenizer(files: ModelFiles, options: GgufTokenizerOptions = {}): Promise<Tokenizer> {
  return files.gguf === undefined ? fromFolder(files) : fromGguf(files, files.gguf, options);
}

async function fromGguf(files: ModelFiles, name: string, options: GgufTokenizerOptions): Promise<Tokenizer> {
  const source = await files.open(name);
  if (!source) throw new LowrankError('tokenizer', 'the file is not there', `${name} of ${files.name}`);
  const file = await openGguf(source);
  try {
    const { json, config, eosTokenIds } = ggufTokenizer(file, options);
    const chatTemplates = templateSources(config.chat_template);
    if (file.metadata.has('tokenizer.chat_template.tool_use'))
      chatTemplates.set('tool_use', file.string('tokenizer.chat_template.tool_use'));
    return new Tokenizer({ json, config, eosTokenIds, chatTemplates });
  } finally {
    await file.close();
  }
}

async function fromFolder(files: ModelFiles): Promise<Tokenizer> {
  const json = await readJson(files, 'tokenizer.json');
  if (!json)
    throw new LowrankError(
      'tokenizer',
      'tokenizer.json is not there',
      files.name,
      'Where the folder has tokenizer.model or vocab.json alone, let transformers write it: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)',
    );
  const specials = await specialTokensMap(files);
  const config = { ...specials, ...(await readJson(files, 'tokenizer_config.json')) };
  const generation = await readJson(files, 'generation_config.json');
  const ids = (source: Record<string, unknown> | undefined) =>
    source ? new ConfigReader(source).integers('eos_token_id') : [];
  const own = ids(generation);
  const eosTokenIds = own.length ? own : ids(await readJson(files, 'config.json'));
  return new Tokenizer({ json, config, eosTokenIds, chatTemplates: await chatTemplates(files, config) });
}

/** Older folders name their special tokens in a file of their own. */
async function specialTokensMap(files: ModelFiles): Promise<Record<string, unknown>> {
  const map = await readJson(files, 'special_tokens_map.json');
  return Object.fromEntries(Object.entries(map ?? {}).filter(([key]) => key.endsWith('_token')));
}

/** The template in a file of its own counts more than the one in `tokenizer_config.json`, as in transformers. */
async function chatTemplates(
  files: ModelFiles,
  config: Readonly<Record<string, unknown>>,
): Promise<Map<string, string>> {
  const sources = templateSources(config.chat_template);
  const text = await readText(files, 'chat_template.jinja');
  if (text !== undefined) return sources.set('default', text);
  const json = await readJson(files, 'chat_template.json');
  if (isObject(json) && typeof json.chat_template === 'string') sources.set('default', json.chat_template);
  return sources;
}
