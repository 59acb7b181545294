import { check } from '@lowrank/tensor';

/** A node of `tokenizer.json`'s pre-tokenizer. */
export type PreTokenizerJson = Readonly<Record<string, unknown>> | null;

/** How GPT-2 cuts text into words; what `ByteLevel` with `use_regex` does. */
export const gpt2Words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const tail = '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const llama3 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*${tail}`;
const qwen2 = llama3.replace('\\p{N}{1,3}', '\\p{N}');
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words by case: `helloWorld` is two. */
const cased = (suffix: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${suffix}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*${tail}`;

const gpt2 = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const bytes = { ...gpt2, use_regex: false };
const split = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });
const sequence = (...pretokenizers: object[]): PreTokenizerJson => ({ type: 'Sequence', pretokenizers });

/** How a vocabulary of type `gpt2` is read. */
export interface BpeStyle {
  readonly preTokenizer: PreTokenizerJson;
  /** A word that is a token is taken whole, whatever the merges would make of it. */
  readonly ignoreMerges?: boolean;
  /** The first token is BOS, where the file does not say. */
  readonly addBos?: boolean;
  /** Text is composed (NFC) first. */
  readonly nfc?: boolean;
}

const byDigit: BpeStyle = { preTokenizer: sequence(split('\\p{N}'), gpt2) };
const plain: BpeStyle = { preTokenizer: gpt2 };
const threeDigits: BpeStyle = { preTokenizer: sequence(split(llama3), bytes) };
const oneDigit: BpeStyle = { preTokenizer: sequence(split(qwen2), bytes) };
const fourO: BpeStyle = { preTokenizer: sequence(split(cased(`${contractions}?`, '\\p{N}{1,3}')), bytes) };

/**
 * What `tokenizer.ggml.pre` stands for. The names are those that llama.cpp's converter writes; the rules are those of the models'
 * own `tokenizer.json`.
 */
const styles: Readonly<Record<string, { readonly names: readonly string[]; readonly style: BpeStyle }>> = {
  gpt2: {
    names: [
      'gpt-2',
      'phi-2',
      'mpt',
      'olmo',
      'jais',
      'jina-es',
      'jina-de',
      'jina-v2-es',
      'jina-v2-de',
      'gigachat',
      'mellum',
      'exaone4',
      'trillion',
      'granite-docling',
    ],
    style: plain,
  },
  byDigit: {
    names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    style: byDigit,
  },
  llama3: {
    names: ['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'falcon-h1', 'pixtral', 'midm-2.0', 'lfm2'],
    style: { ...threeDigits, ignoreMerges: true, addBos: true },
  },
  threeDigits: { names: ['dbrx', 'smaug-bpe'], style: threeDigits },
  qwen2: { names: ['qwen2', 'megrez'], style: { ...oneDigit, nfc: true } },
  oneDigit: { names: ['deepseek-r1-qwen', 'stablelm2', 'hunyuan', 'kormo'], style: oneDigit },
  gpt4o: { names: ['gpt-4o', 'llama4'], style: fourO },
  tekken: {
    names: ['tekken'],
    style: { preTokenizer: sequence(split(cased('', '\\p{N}')), bytes), ignoreMerges: true, addBos: true },
  },
  falcon: {
    names: ['falcon'],
    style: { preTokenizer: sequence(split('[\\p{P}$+<=>^~|`]+'), split(gpt2Words), split('[0-9][0-9][0-9]'), bytes) },
  },
  default: {
    names: ['default'],
    style: {
      preTokenizer: sequence(
        split('[\\p{P}$+<=>^~|]+'),
        split(gpt2Words),
        split('\\p{N}+'),
        split('[0-9][0-9][0-9]'),
        bytes,
      ),
    },
  },
};

/** The style that a file's `tokenizer.ggml.pre` names; throws for an unknown one. */
export function bpeStyle(pre: string): BpeStyle {
  const found = Object.values(styles).find(({ names }) => names.includes(pre));
  const known = () =>
    Object.values(styles)
      .flatMap(({ names }) => names)
      .join(', ');
  check(
    found,
    'tokenizer',
    'unknown tokenizer.ggml.pre',
    pre,
    `Known: ${known()}. Use the tokenizer.json of the model, or name a preTokenizer`,
  );
  return found.style;
}
