import { ByteLevelPreTokenizer, Tokenizer as LibraryTokenizer, SplitPreTokenizer } from '@huggingface/tokenizers';
import { check, LowrankError } from '@lowrank/tensor';
import { isObject } from '../files.ts';
import { type ChatMessage, type ChatOptions, ChatTemplate } from './chat-template.ts';
import { TokenStream } from './token-stream.ts';
import { WordCache, type WordSplitter, wordSplitter } from './words.ts';

/** What a tokenizer is made of. */
export interface TokenizerParts {
  /** `tokenizer.json` */
  readonly json: Readonly<Record<string, unknown>>;
  /** `tokenizer_config.json` */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Chat templates by name (`default`, `tool_use`). */
  readonly chatTemplates?: ReadonlyMap<string, string>;
  /** Tokens that end a generation, besides the tokenizer's own EOS. */
  readonly eosTokenIds?: readonly number[];
}

export interface EncodeOptions {
  /** Put BOS and EOS where the tokenizer's own rule puts them. True by default; say false for rendered chats, which hold them already. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave control tokens out of the text. */
  readonly skipSpecialTokens?: boolean;
}

/** Text to token ids and back, and chat templates. Made by `loadTokenizer`. */
export class Tokenizer {
  readonly parts: TokenizerParts;
  readonly bosTokenId: number | undefined;
  /** The token that ends a text; what training appends. */
  readonly eosTokenId: number | undefined;
  /** Every token that ends a generation, `eosTokenId` first. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly unkTokenId: number | undefined;
  /** One more than the largest id. */
  readonly vocabSize: number;
  readonly #library: LibraryTokenizer;
  readonly #template: ChatTemplate;
  readonly #special: ReadonlySet<number>;
  readonly #words: FastWords | undefined;

  constructor(parts: TokenizerParts) {
    const config = parts.config ?? {};
    const json = withDefaults(parts.json, config);
    this.parts = parts;
    try {
      this.#library = new LibraryTokenizer(json, {
        ...config,
        clean_up_tokenization_spaces: config.clean_up_tokenization_spaces ?? false,
      });
    } catch (cause) {
      throw new LowrankError('tokenizer', 'tokenizer.json cannot be read', (cause as Error).message, '', { cause });
    }
    const specials = specialTexts(config);
    const id = (name: string) => (specials[name] === undefined ? undefined : this.#library.token_to_id(specials[name]));
    this.bosTokenId = id('bos_token');
    this.eosTokenId = id('eos_token') ?? parts.eosTokenIds?.[0];
    this.eosTokenIds = [
      ...new Set([...(this.eosTokenId === undefined ? [] : [this.eosTokenId]), ...(parts.eosTokenIds ?? [])]),
    ];
    this.padTokenId = id('pad_token');
    this.unkTokenId = id('unk_token');
    this.vocabSize = this.#library.model!.vocab.length;
    this.#template = new ChatTemplate(parts.chatTemplates ?? new Map(), specials);
    const added = [...this.#library.get_added_tokens_decoder()];
    this.#special = new Set(added.filter(([, token]) => token.special).map(([i]) => i));
    this.#words = FastWords.create(json, this.#library);
  }

  /** Token ids of a text. */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    check(typeof text === 'string', 'tokenizer', 'needs a text', () => typeof text);
    return this.#words
      ? this.#words.encode(text, addSpecialTokens)
      : this.#library.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  /** The text of token ids; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[], { skipSpecialTokens = false }: DecodeOptions = {}): string {
    for (const id of ids)
      check(
        Number.isInteger(id) && id >= 0 && id < this.vocabSize,
        'tokenizer',
        'no such token',
        () => `${id}, of ${this.vocabSize}`,
      );
    return ids.length === 0 ? '' : this.#library.decode([...ids], { skip_special_tokens: skipSpecialTokens });
  }

  /** Decodes tokens one after the other. Special tokens are left out by default. */
  stream({ skipSpecialTokens = true }: DecodeOptions = {}): TokenStream {
    return new TokenStream(
      (ids) => this.decode(ids),
      (id) => skipSpecialTokens && this.#special.has(id),
    );
  }

  /** The id of a token by its exact text in the vocabulary (`<|im_end|>`, `Ġthe`), or undefined. */
  idOf(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  /** A token's text in the vocabulary, or undefined. */
  tokenOf(id: number): string | undefined {
    return this.#library.id_to_token(id);
  }

  /** Is it a control token (BOS, end of turn)? */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  get hasChatTemplate(): boolean {
    return this.#template.sources.size > 0;
  }

  /** The text of a conversation. Encode it with `addSpecialTokens: false`: templates write the special tokens themselves. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    return this.#template.render(messages, options);
  }

  /**
   * The files of a Hugging Face folder that hold this tokenizer, by name: `tokenizer.json`, `tokenizer_config.json`, and
   * `chat_template.jinja` where there is a template. What a GGUF carried becomes a folder that transformers loads.
   */
  files(): Map<string, string> {
    const { chat_template: _, ...config } = this.parts.config ?? {};
    const { sources } = this.#template;
    const named = [...sources].filter(([name]) => name !== 'default').map(([name, template]) => ({ name, template }));
    const own = sources.get('default');
    const both = named.length
      ? { chat_template: [...(own === undefined ? [] : [{ name: 'default', template: own }]), ...named] }
      : {};
    const full = { tokenizer_class: 'PreTrainedTokenizerFast', ...config, ...both };
    return new Map([
      ['tokenizer.json', JSON.stringify(withDefaults(this.parts.json, config))],
      ['tokenizer_config.json', `${JSON.stringify(full, null, 2)}\n`],
      ...(own !== undefined && !named.length ? [['chat_template.jinja', own] as const] : []),
    ]);
  }

  /** Token ids of a conversation. */
  encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): number[] {
    return this.encode(this.applyChatTemplate(messages, options), { addSpecialTokens: false });
  }
}

/** Keys that older files leave out, and the rule for BOS and EOS that `tokenizer_config.json` may ask for, as transformers applies it. */
function withDefaults(
  json: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const full = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...json,
  };
  if (!('add_bos_token' in config) && !('add_eos_token' in config)) return full;
  const specials = specialTexts(config);
  const item = (name: 'bos' | 'eos') =>
    config[`add_${name}_token`] && specials[`${name}_token`]
      ? [{ SpecialToken: { id: specials[`${name}_token`], type_id: 0 } }]
      : [];
  const sequence = (id: string) => ({ Sequence: { id, type_id: 0 } });
  const one = (id: string) => [...item('bos'), sequence(id), ...item('eos')];
  return {
    ...full,
    post_processor: {
      type: 'TemplateProcessing',
      single: one('A'),
      pair: [...one('A'), ...one('B')],
      special_tokens: {},
    },
  };
}

/** `bos_token`, `eos_token` … as texts; files write them as texts or as objects. */
function specialTexts(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    const text = isObject(value) ? value.content : value;
    if (/^(bos|eos|unk|pad|sep|cls|mask)_token$/.test(key) && typeof text === 'string') out[key] = text;
  }
  return out;
}

/** Byte-level BPE with its words remembered: on GSM8K 13 times the library's own rate once warm, 5 times while the words are new. */
class FastWords {
  readonly #library: LibraryTokenizer;
  readonly #split: WordSplitter;
  readonly #added: RegExp | undefined;
  readonly #prefix: readonly number[];
  readonly #suffix: readonly number[];
  readonly #cache = new WordCache();
  readonly #bytes = new ByteLevelPreTokenizer({ type: 'ByteLevel', add_prefix_space: false, use_regex: false });

  private constructor(library: LibraryTokenizer, split: WordSplitter, added: RegExp | undefined) {
    this.#library = library;
    this.#split = split;
    this.#added = added;
    const mark = '\u0000';
    const template: string[] = library.post_processor
      ? library.post_processor.post_process([mark], null, true).tokens
      : [mark];
    const at = template.indexOf(mark);
    const ids = (tokens: string[]) => tokens.map((t) => library.token_to_id(t)!);
    this.#prefix = ids(template.slice(0, at));
    this.#suffix = ids(template.slice(at + 1));
  }

  /** Undefined where the tokenizer is of another kind, or cuts text around added tokens. */
  static create(json: Readonly<Record<string, unknown>>, library: LibraryTokenizer): FastWords | undefined {
    const split = wordSplitter(json, compile);
    const added = [...library.get_added_tokens_decoder().values()];
    if (
      !split ||
      added.some((t) => t.lstrip || t.rstrip || t.single_word || (t.normalized && json.normalizer !== null))
    )
      return undefined;
    const texts = added
      .map((t) => t.content)
      .filter(Boolean)
      .sort((a, b) => b.length - a.length);
    const regex = texts.length
      ? new RegExp(`(${texts.map((t) => t.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')).join('|')})`)
      : undefined;
    return new FastWords(library, split, regex);
  }

  encode(text: string, addSpecialTokens: boolean): number[] {
    const ids: number[] = addSpecialTokens ? [...this.#prefix] : [];
    const sections = this.#added ? text.split(this.#added) : [text];
    for (let i = 0; i < sections.length; i++) {
      const section = sections[i]!;
      if (section === '') continue;
      if (i % 2 === 1) ids.push(this.#library.token_to_id(section)!);
      else for (const word of this.#split(section)) for (const id of this.#idsOf(word)) ids.push(id);
    }
    if (addSpecialTokens) ids.push(...this.#suffix);
    return ids;
  }

  #idsOf(word: string): readonly number[] {
    const known = this.#cache.get(word);
    if (known) return known;
    const model = this.#library.model!;
    const ids = model.encode(this.#bytes.pre_tokenize_text(word, {})).map((t) => model.tokens_to_ids.get(t)!);
    this.#cache.set(word, ids);
    return ids;
  }
}

/** A pattern of `tokenizer.json` in JavaScript's own syntax, by the library's translator. */
function compile(regex: string): RegExp | undefined {
  return (
    new SplitPreTokenizer({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false }).pattern ??
    undefined
  );
}
