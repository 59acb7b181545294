import { check, checkNames, LowrankError } from '@lowrank/tensor';
import { Pacer } from '../pause.ts';
import { chatSpans, learntLength } from './chat.ts';
import { Dataset, ignored, type Sample } from './dataset.ts';
import type { SourceRecord } from './input.ts';
import { readArray } from './readers.ts';
import { exampleOf, type Templates } from './shapes.ts';
import { type DataTokenizer, endId, endIds } from './tokenizer.ts';

export interface EncodeOptions extends Templates {
  /**
   * What is learnt: `completion` (completions and assistant turns; everything where a record is plain text), `last` (of a chat, the last
   * assistant turn alone) or `all` tokens.
   */
  readonly lossOn?: 'completion' | 'last' | 'all';
  /** Longer samples keep their first `maxLength` tokens. */
  readonly maxLength?: number;
  /** `false`: a sample longer than `maxLength` is an error. */
  readonly truncation?: boolean;
  /** The most tokens that the model can read; a longer sample is an error unless it is cut. */
  readonly contextLength?: number | undefined;
  /** What to do with a sample of which nothing is learnt (the prompt alone fills `maxLength`): an error, or leave it out and count it. */
  readonly onMasked?: 'error' | 'drop';
  /** Ends completions and plain texts with the tokenizer's end token, which is learnt. On by default. */
  readonly appendEos?: boolean;
  readonly onProgress?: (records: number) => void;
}

const names = {
  prompt: true,
  completion: true,
  text: true,
  lossOn: true,
  maxLength: true,
  truncation: true,
  contextLength: true,
  onMasked: true,
  appendEos: true,
  onProgress: true,
} as const satisfies Record<keyof EncodeOptions, true>;

/** Ids and labels, not yet cut. */
interface Encoded {
  readonly ids: number[];
  readonly labels: number[];
}

class Encoder {
  readonly #tokenizer: DataTokenizer;
  readonly #options: EncodeOptions;

  constructor(tokenizer: DataTokenizer, options: EncodeOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  encode(record: SourceRecord): Encoded {
    const { lossOn = 'completion', appendEos = true } = this.#options;
    const example = exampleOf(record, this.#options);
    const out: Encoded = { ids: [], labels: [] };
    const learnAll = lossOn === 'all';
    if (example.kind === 'text') {
      push(out, this.#opening(example.text), true);
      if (appendEos) this.#end(out);
    } else if (example.kind === 'pair') {
      if (example.prompt) {
        push(out, this.#opening(example.prompt), learnAll);
        push(out, this.#ids(example.completion, false), true);
      } else push(out, this.#opening(example.completion), true);
      if (appendEos) this.#end(out);
    } else
      for (const { text, learn } of chatSpans(example, this.#tokenizer, record.where, lossOn)) {
        const ids = this.#ids(text, false);
        const { learn: count, ended } = learn ? learntLength(ids, this.#tokenizer) : { learn: 0, ended: true };
        push(out, ids.slice(0, count), true);
        if (!ended && appendEos) this.#end(out);
        push(out, ids.slice(count), learnAll);
      }
    return out;
  }

  #ids(text: string, addSpecialTokens: boolean): number[] {
    return Array.from(this.#tokenizer.encode(text, { addSpecialTokens }));
  }

  /** The first text of a sample: with the special tokens that open a sequence, without those that would close it here. */
  #opening(text: string): number[] {
    const ids = this.#ids(text, true);
    const ends = endIds(this.#tokenizer);
    if (!ends.includes(ids[ids.length - 1]!)) return ids;
    const bare = this.#ids(text, false);
    return bare[bare.length - 1] === ids[ids.length - 1] ? ids : ids.slice(0, -1);
  }

  #end(out: Encoded): void {
    push(out, [endId(this.#tokenizer)], true);
  }
}

function push(out: Encoded, ids: readonly number[], learn: boolean): void {
  for (const id of ids) {
    out.ids.push(id);
    out.labels.push(learn ? id : ignored);
  }
}

/** Labels that a position before them predicts. */
function counted(labels: readonly number[]): number {
  let n = 0;
  for (let i = 1; i < labels.length; i++) if (labels[i] !== ignored) n++;
  return n;
}

/**
 * Records to token ids with labels. Plain objects are taken as they are; readers give them from files. Throws with the record's place where
 * a column is missing, nothing would be learnt, or a sample does not fit the model.
 */
export async function encodeDataset(
  records: Iterable<object> | AsyncIterable<SourceRecord>,
  tokenizer: DataTokenizer,
  options: EncodeOptions = {},
): Promise<Dataset> {
  checkNames('data', options, Object.keys(names));
  const { maxLength, contextLength, onMasked = 'error', truncation = true } = options;
  check(
    maxLength === undefined || (Number.isInteger(maxLength) && maxLength >= 2),
    'data',
    'maxLength must be a whole number of at least 2',
    String(maxLength),
  );
  check(
    !maxLength || !contextLength || maxLength <= contextLength,
    'data',
    'maxLength exceeds what the model can read',
    `${maxLength}, context ${contextLength}`,
  );
  const encoder = new Encoder(tokenizer, options);
  const samples: Sample[] = [];
  let number = 0;
  let truncated = 0;
  const dropped: string[] = [];
  const stream = Symbol.asyncIterator in records ? records : readArray(records);
  const pacer = new Pacer();
  for await (const record of stream) {
    number++;
    const { ids, labels } = encoder.encode(record);
    const limit = maxLength ?? contextLength ?? Infinity;
    if (ids.length > limit) {
      if (maxLength === undefined || !truncation)
        throw new LowrankError(
          'data',
          maxLength === undefined
            ? 'sample is longer than the context of the model'
            : 'sample is longer than maxLength',
          `${record.where}: ${ids.length} tokens, ${limit} fit`,
          maxLength === undefined ? 'Set maxLength to cut samples' : 'Allow truncation, or raise maxLength',
        );
      ids.length = labels.length = maxLength;
      truncated++;
    }
    if (counted(labels) === 0) {
      if (onMasked === 'error')
        throw new LowrankError(
          'data',
          'nothing of the sample would be learnt: all its labels are masked',
          `${record.where}: ${ids.length} tokens${maxLength ? `, cut at ${maxLength}` : ''}`,
          "Raise maxLength, shorten the prompt, or set onMasked: 'drop' to leave such samples out",
        );
      dropped.push(record.where);
    } else samples.push({ ids: Int32Array.from(ids), labels: Int32Array.from(labels), where: record.where });
    options.onProgress?.(number);
    await pacer.breathe();
  }
  check(number > 0, 'data', 'there are no records');
  check(
    samples.length > 0,
    'data',
    'no sample to learn from',
    () => `${number} records, ${dropped.length} of them all masked`,
  );
  return new Dataset(samples, {
    padTokenId: tokenizer.padTokenId ?? endIds(tokenizer)[0] ?? 0,
    records: number,
    truncated,
    dropped,
  });
}
