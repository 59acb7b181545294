import type { DecoderConfig, Tokenizer } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';
import {
  type Dataset,
  encodeDataset,
  ignored,
  readJson,
  readJsonl,
  type Sample,
  type SourceRecord,
} from '@lowrank/trainer';
import { readCsv } from '@lowrank/trainer/csv';
import type { DataFacts, DataInputChoice } from '../protocol.ts';

/** A sample cut where its first learnt token stands. */
export interface Question {
  readonly promptIds: readonly number[];
  readonly prompt: string;
  readonly expected: string;
}

/** Data that is ready for a run. */
export interface PreparedData {
  readonly train: Dataset;
  readonly heldOut: Dataset | undefined;
  readonly facts: DataFacts;
  /** White space that all prompts end with: what is asked in the chat ends so too. */
  readonly promptEnd: string;
  /** Are the records conversations? Then the chat is put to the model through its template, else as a prompt alone. */
  readonly chats: boolean;
}

/** Records of a file by its name, or of pasted text by its looks; text of no known shape is learnt as it is, a paragraph a sample. */
function records({ name, text }: DataInputChoice): AsyncIterable<SourceRecord> | readonly object[] {
  const trimmed = text.trim();
  if (!trimmed) throw new LowrankError('data', 'there is nothing in it', name, 'Paste records, or choose a file');
  const extension = /\.(\w+)$/.exec(name)?.[1]?.toLowerCase();
  if (extension === 'csv' || extension === 'tsv') return readCsv(text, { name });
  if (extension === 'json' || (!extension && trimmed.startsWith('['))) return readJson(text, { name });
  if (extension === 'jsonl' || extension === 'ndjson' || trimmed.startsWith('{')) return readJsonl(text, { name });
  return trimmed
    .split(/\n\s*\n/)
    .map((paragraph) => ({ text: paragraph.trim() }))
    .filter((record) => record.text);
}

/** Hands records on and notes whether one is a conversation. */
async function* noting(all: ReturnType<typeof records>, found: () => void): AsyncGenerator<SourceRecord> {
  let number = 0;
  for await (const record of all) {
    const made = 'where' in record ? (record as SourceRecord) : { value: { ...record }, where: `sample ${++number}` };
    const { messages, conversations, prompt } = made.value;
    if (messages ?? conversations ?? (Array.isArray(prompt) || undefined)) found();
    yield made;
  }
}

/** Encodes data for a model and holds out its last samples. Throws what is wrong with it, with the place. */
export async function prepareData(
  input: DataInputChoice,
  tokenizer: Tokenizer,
  config: DecoderConfig,
  options: { maxLength: number; heldOut: number },
): Promise<PreparedData> {
  let chats = false;
  const note = () => {
    chats = true;
  };
  const all = await encodeDataset(noting(records(input), note), tokenizer, {
    maxLength: Math.min(options.maxLength, config.maxPositions),
    contextLength: config.maxPositions,
    onMasked: 'drop',
  });
  if (all.length === 0)
    throw new LowrankError(
      'data',
      'nothing of it would be learnt',
      input.name,
      'Raise the longest sample, or add completions',
    );
  if (all.largestId >= config.vocabSize)
    throw new LowrankError(
      'data',
      'the tokenizer gives ids that the model does not know',
      `${all.largestId}, of ${config.vocabSize}`,
    );
  const { heldOut } = options;
  if (heldOut >= all.length)
    throw new LowrankError('data', 'too many samples are held out', `${heldOut} of ${all.length}`, 'Hold out fewer');
  const train = heldOut ? all.slice(0, all.length - heldOut) : all;
  const held = heldOut ? all.slice(all.length - heldOut) : undefined;
  const questions = questionsOf(all, tokenizer, 50);
  const ends = new Set(questions.map(({ prompt }) => /\s*$/.exec(prompt)![0]));
  return {
    train,
    heldOut: held,
    chats,
    promptEnd: ends.size === 1 ? [...ends][0]! : '',
    facts: {
      name: input.name,
      samples: all.length,
      heldOut,
      longest: all.longest,
      tokens: all.tokens,
      truncated: all.truncated,
      dropped: all.dropped.length,
      examples: questions.slice(0, 3).map(({ prompt, expected }) => ({ prompt, completion: expected })),
    },
  };
}

function questionOf(sample: Sample, tokenizer: Tokenizer): Question {
  const ids = Array.from(sample.ids);
  let first = sample.labels.findIndex((label) => label !== ignored);
  // plain text has no prompt: its first words are one
  if (first <= 0) first = Math.max(1, Math.min(8, ids.length >> 1));
  const text = (part: number[]) => tokenizer.decode(part, { skipSpecialTokens: true });
  const end = sample.labels.findIndex((label, i) => i > first && label === ignored);
  return {
    promptIds: ids.slice(0, first),
    prompt: text(ids.slice(0, first)),
    expected: text(ids.slice(first, end < 0 ? undefined : end)),
  };
}

/** Prompts with what is to follow, from the first samples. */
export function questionsOf(data: Dataset, tokenizer: Tokenizer, limit: number): Question[] {
  return data.samples.slice(0, limit).map((sample) => questionOf(sample, tokenizer));
}
