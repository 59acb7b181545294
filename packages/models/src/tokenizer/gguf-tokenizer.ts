import type { GgufFile } from '@lowrank/formats';
import { check } from '@lowrank/tensor';
import { ggufEosTokenIds } from '../checkpoint/gguf-config.ts';
import { bpeStyle } from './pre-tokenizers.ts';

/** What a Hugging Face folder keeps in `tokenizer.json` and `tokenizer_config.json`. */
export interface TokenizerFiles {
  readonly json: Record<string, unknown>;
  readonly config: Record<string, unknown>;
  /** Ends of a generation besides the tokenizer's own EOS. */
  readonly eosTokenIds: readonly number[];
}

export interface GgufTokenizerOptions {
  /** Read the vocabulary as this `tokenizer.ggml.pre` says, not as the file's own. */
  readonly preTokenizer?: string;
}

/** `tokenizer.ggml.token_type` */
const kinds = { unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The tokenizer that a GGUF file carries, in the form of `tokenizer.json`: byte-level BPE (`gpt2`) or SentencePiece BPE (`llama`). */
export function ggufTokenizer(file: GgufFile, options: GgufTokenizerOptions = {}): TokenizerFiles {
  const model = file.string('tokenizer.ggml.model');
  check(
    model === 'gpt2' || model === 'llama',
    'tokenizer',
    'unknown tokenizer.ggml.model',
    `${model} (${file.name})`,
    'Known: gpt2, llama. Use the tokenizer.json of the model',
  );
  const tokens = file.strings('tokenizer.ggml.tokens');
  const types = file.metadata.has('tokenizer.ggml.token_type')
    ? file.numbers('tokenizer.ggml.token_type')
    : new Int32Array(tokens.length).fill(1);
  check(
    types.length === tokens.length,
    'tokenizer',
    'one type a token',
    `${file.name}: ${tokens.length} tokens, ${types.length} types`,
  );
  const vocabulary: Vocabulary = { tokens, types };
  const json = model === 'gpt2' ? byteLevelJson(file, vocabulary, options) : sentencePieceJson(file, vocabulary);
  return { json, config: tokenizerConfig(file, tokens, model, options), eosTokenIds: ggufEosTokenIds(file) };
}

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: ArrayLike<number>;
}

const preOf = (file: GgufFile, options: GgufTokenizerOptions) =>
  options.preTokenizer ?? file.string('tokenizer.ggml.pre', 'default');

function byteLevelJson(file: GgufFile, vocabulary: Vocabulary, options: GgufTokenizerOptions): Record<string, unknown> {
  const style = bpeStyle(preOf(file, options));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: style.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: style.preTokenizer,
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: style.ignoreMerges ?? false,
      vocab: vocabOf(vocabulary.tokens),
      merges: file.strings('tokenizer.ggml.merges').map((merge) => {
        // A token may begin with a space, so the first one cannot part the pair.
        const at = merge.indexOf(' ', 1);
        return [merge.slice(0, at), merge.slice(at + 1)];
      }),
    },
  };
}

/** SentencePiece's BPE joins the pair whose piece scores highest; as merges, that is every split of every piece, by the piece's score. */
function sentencePieceJson(file: GgufFile, vocabulary: Vocabulary): Record<string, unknown> {
  const { tokens, types } = vocabulary;
  const prefix = file.metadata.get('tokenizer.ggml.add_space_prefix')?.value !== false;
  const space = { String: '▁' };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: space, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: tokens.find((_, i) => types[i] === kinds.unknown) ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocabOf(tokens),
      merges: mergesOf(vocabulary, file.numbers('tokenizer.ggml.scores')),
    },
  };
}

function mergesOf({ tokens, types }: Vocabulary, scores: ArrayLike<number>): [string, string][] {
  const pieces = new Map<string, number>();
  tokens.forEach((token, i) => {
    const kind = types[i]!;
    if (kind !== kinds.control && kind !== kinds.unknown && kind !== kinds.byte) pieces.set(token, i);
  });
  const merges: { left: number; right: number; piece: number }[] = [];
  for (const [text, piece] of pieces) {
    const letters = Array.from(text);
    for (let at = letters[0]?.length ?? 0, i = 1; i < letters.length; at += letters[i]!.length, i++) {
      const left = pieces.get(text.slice(0, at));
      const right = pieces.get(text.slice(at));
      if (left !== undefined && right !== undefined) merges.push({ left, right, piece });
    }
  }
  merges.sort(
    (a, b) => scores[b.piece]! - scores[a.piece]! || a.piece - b.piece || a.left - b.left || a.right - b.right,
  );
  return merges.map(({ left, right }) => [tokens[left]!, tokens[right]!]);
}

/** Built from entries, so that a token called `__proto__` is one. */
function vocabOf(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, i) => [token, i]));
}

/** Tokens that text is cut at before anything else. */
function addedTokens({ tokens, types }: Vocabulary): object[] {
  return tokens.flatMap((content, id) => {
    const kind = types[id]!;
    if (kind !== kinds.control && kind !== kinds.unknown && kind !== kinds.userDefined) return [];
    return content === ''
      ? []
      : [
          {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: kind !== kinds.userDefined,
          },
        ];
  });
}

function tokenizerConfig(
  file: GgufFile,
  tokens: readonly string[],
  model: 'gpt2' | 'llama',
  options: GgufTokenizerOptions,
): Record<string, unknown> {
  const token = (name: string) => {
    const key = `tokenizer.ggml.${name}_token_id`;
    return file.metadata.has(key) ? tokens[file.number(key)] : undefined;
  };
  const flag = (name: string, fallback: boolean) => {
    const found = file.metadata.get(`tokenizer.ggml.${name}`);
    return found?.type === 'bool' ? found.value : fallback;
  };
  const template = file.string('tokenizer.chat_template', '');
  const bos = token('bos');
  const addBos = model === 'llama' || (bpeStyle(preOf(file, options)).addBos ?? false);
  const config: Record<string, unknown> = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: bos,
    eos_token: token('eos'),
    unk_token: token('unknown'),
    pad_token: token('padding'),
    add_bos_token: flag('add_bos_token', addBos) && bos !== undefined,
    add_eos_token: flag('add_eos_token', false),
    clean_up_tokenization_spaces: false,
    ...(template ? { chat_template: template } : {}),
  };
  for (const key of Object.keys(config)) if (config[key] === undefined) delete config[key];
  return config;
}
