import { isObject } from '../files.ts';
import { gpt2Words } from './pre-tokenizers.ts';

/** Cuts text into the words that byte-level BPE then looks at one by one, as pieces of the text itself. */
export type WordSplitter = (text: string) => readonly string[];

/**
 * The splitter of a `tokenizer.json`, where its rules are of the kind that cuts text and changes nothing (`Split`, `Digits`, `ByteLevel`
 * without a prefix space, and sequences of them that end in `ByteLevel`), and its normalizer is none or NFC. Words then depend on nothing
 * but themselves, so their ids can be remembered. Undefined for every other tokenizer. `compile` makes a pattern of the file one of
 * JavaScript's, whose classes differ (U+FEFF is no space to Oniguruma).
 */
export function wordSplitter(
  json: Readonly<Record<string, unknown>>,
  compile: (regex: string) => RegExp | undefined,
): WordSplitter | undefined {
  const normalize = normalizerOf(json.normalizer);
  const model = json.model;
  if (
    !normalize ||
    !isObject(model) ||
    model.type !== 'BPE' ||
    model.dropout ||
    model.continuing_subword_prefix ||
    model.end_of_word_suffix
  )
    return undefined;
  const steps = flatten(json.pre_tokenizer);
  if (steps?.at(-1)?.type !== 'ByteLevel') return undefined;
  const patterns = steps.map((step) => patternOf(step, compile));
  if (patterns.some((p) => p === undefined)) return undefined;
  const cuts = patterns.filter((p) => p instanceof RegExp);
  return (text) => {
    let words: string[] = [normalize(text)];
    for (const pattern of cuts)
      words = words.length === 1 ? cut(words[0]!, pattern) : words.flatMap((word) => cut(word, pattern));
    return words;
  };
}

function normalizerOf(json: unknown): ((text: string) => string) | undefined {
  if (json === null || json === undefined) return (text) => text;
  if (isObject(json) && json.type === 'NFC') return (text) => text.normalize('NFC');
  if (isObject(json) && json.type === 'Sequence' && Array.isArray(json.normalizers) && json.normalizers.length === 0)
    return (text) => text;
  return undefined;
}

/** The steps of nested sequences; `ByteLevel` may only come last. */
function flatten(json: unknown): Record<string, unknown>[] | undefined {
  if (!isObject(json)) return undefined;
  const steps =
    json.type === 'Sequence' && Array.isArray(json.pretokenizers) ? json.pretokenizers.map(flatten) : [[json]];
  if (steps.some((s) => s === undefined)) return undefined;
  const flat = (steps as Record<string, unknown>[][]).flat();
  return flat.slice(0, -1).some((s) => s.type === 'ByteLevel') ? undefined : flat;
}

/** What a step cuts at; `null` where it cuts nothing, undefined where this kind of step is not known. */
function patternOf(
  step: Record<string, unknown>,
  compile: (regex: string) => RegExp | undefined,
): RegExp | null | undefined {
  if (step.type === 'Digits') return step.individual_digits ? /\p{N}/gu : /\p{N}+/gu;
  if (step.type === 'ByteLevel') {
    if (step.add_prefix_space) return undefined;
    return step.use_regex === false ? null : compile(gpt2Words);
  }
  const pattern = step.pattern;
  if (
    step.type !== 'Split' ||
    step.behavior !== 'Isolated' ||
    step.invert ||
    !isObject(pattern) ||
    typeof pattern.Regex !== 'string'
  )
    return undefined;
  return compile(pattern.Regex);
}

/** Matches and what lies between them, in order. */
function cut(text: string, pattern: RegExp): string[] {
  const words: string[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match[0].length === 0) continue;
    if (end < match.index) words.push(text.slice(end, match.index));
    words.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) words.push(text.slice(end));
  return words;
}

/** A map that forgets everything once it holds `capacity` words: text repeats its words, so it is soon full of the right ones again. */
export class WordCache {
  readonly #ids = new Map<string, readonly number[]>();
  readonly #capacity: number;

  constructor(capacity = 1 << 17) {
    this.#capacity = capacity;
  }

  get(word: string): readonly number[] | undefined {
    return this.#ids.get(word);
  }

  set(word: string, ids: readonly number[]): void {
    // Long words seldom come twice, and weigh.
    if (word.length > 64) return;
    if (this.#ids.size >= this.#capacity) this.#ids.clear();
    // A cut word is a view that keeps its whole text in memory.
    this.#ids.set(` ${word}`.slice(1), ids);
  }
}
