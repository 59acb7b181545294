import { check, LowrankError } from '@lowrank/tensor';
import type { CausalLm } from '../decoder.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { BatchForward } from './forward.ts';
import { Sampler, type SamplingOptions } from './sampler.ts';
import { StopText } from './stop-text.ts';

/** Why a text ended: an end-of-text token, a stop string or id, or the limit on tokens. */
export type FinishReason = 'eos' | 'stop' | 'length';

/** One token of one prompt. */
export interface GeneratedToken {
  /** Index of the prompt. */
  readonly prompt: number;
  readonly id: number;
  /** Text to show now: '' without a tokenizer, while a character or a stop string is still open, and for special tokens. */
  readonly text: string;
  /** On a prompt's last token. */
  readonly finish?: FinishReason;
}

export interface GenerateOptions extends SamplingOptions {
  /** Needed for prompts that are texts, for text in the answer, and for stop strings. */
  readonly tokenizer?: Tokenizer;
  /** 128 by default; fewer of a prompt whose context ends before. */
  readonly maxNewTokens?: number;
  /** Ends a text: strings (never shown) or token ids. */
  readonly stop?: readonly (string | number)[];
  /** Tokens that end a text; the model's and the tokenizer's by default. An empty list goes on to the limit. */
  readonly eosTokenIds?: readonly number[];
  /** Keep keys and values of tokens already seen. True by default. */
  readonly useCache?: boolean;
  readonly onToken?: (token: GeneratedToken) => void;
  /** Ends the generation with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A text, or token ids. */
export type Prompt = string | readonly number[];

/**
 * Continues one prompt, or several at once: token after token, in the order of the prompts at each step. Leaving the loop early frees
 * everything.
 */
export async function* generate(
  model: CausalLm,
  prompts: Prompt | readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<GeneratedToken, void, undefined> {
  const ids = promptIds(prompts, options.tokenizer);
  if (ids.length === 0) return;
  const limits = limitsOf(model, ids, options.maxNewTokens ?? 128);
  const limit = Math.max(...limits);
  const sampler = new Sampler(options);
  const rows = ids.map((_, i) => new Row(i, model, options));
  if (limit === 0) return;
  using forward = new BatchForward(model, ids, Math.max(...ids.map((p) => p.length)) + limit, options.useCache ?? true);
  for (let step = 0; step < limit; step++) {
    options.signal?.throwIfAborted();
    const logits = await forward.logits();
    const next = logits.map((l, i) => (rows[i]!.finished ? ids[i]![0]! : sampler.pick(l, i, step)));
    for (const row of rows) {
      if (row.finished) continue;
      const token = row.take(next[row.index]!, step === limits[row.index]! - 1);
      options.onToken?.(token);
      yield token;
    }
    if (rows.every((row) => row.finished)) return;
    forward.append(next);
  }
}

/** The text that follows one prompt, or each of several. */
export async function generateText(
  model: CausalLm,
  tokenizer: Tokenizer,
  prompt: Prompt,
  options?: Omit<GenerateOptions, 'tokenizer'>,
): Promise<string>;
export async function generateText(
  model: CausalLm,
  tokenizer: Tokenizer,
  prompts: readonly Prompt[],
  options?: Omit<GenerateOptions, 'tokenizer'>,
): Promise<string[]>;
export async function generateText(
  model: CausalLm,
  tokenizer: Tokenizer,
  prompts: Prompt | readonly Prompt[],
  options: Omit<GenerateOptions, 'tokenizer'> = {},
): Promise<string | string[]> {
  const texts = isPrompt(prompts) ? [''] : prompts.map(() => '');
  for await (const { prompt, text } of generate(model, prompts, { ...options, tokenizer })) texts[prompt] += text;
  return isPrompt(prompts) ? texts[0]! : texts;
}

function isPrompt(prompts: Prompt | readonly Prompt[]): prompts is Prompt {
  return typeof prompts === 'string' || typeof prompts[0] === 'number';
}

function promptIds(prompts: Prompt | readonly Prompt[], tokenizer: Tokenizer | undefined): (readonly number[])[] {
  const list = isPrompt(prompts) ? [prompts] : prompts;
  return list.map((prompt, i) => {
    if (typeof prompt === 'string' && !tokenizer)
      throw new LowrankError('generate', 'a text needs a tokenizer', `prompt ${i}`, 'Pass { tokenizer }, or token ids');
    const ids = typeof prompt === 'string' ? tokenizer!.encode(prompt) : prompt;
    // A model continues something; from nothing, it begins with BOS.
    const start = ids.length === 0 && tokenizer?.bosTokenId !== undefined ? [tokenizer.bosTokenId] : ids;
    check(start.length > 0, 'generate', 'the prompt is empty', `prompt ${i}`, 'Begin with a text or a BOS token');
    return start;
  });
}

/** New tokens of each prompt at most. Throws where one alone fills the context, or has ids that the model does not know. */
function limitsOf(model: CausalLm, prompts: readonly (readonly number[])[], maxNewTokens: number): number[] {
  const { vocabSize, maxPositions } = model.config;
  check(
    Number.isInteger(maxNewTokens) && maxNewTokens >= 0,
    'generate',
    'maxNewTokens must be a whole number',
    String(maxNewTokens),
  );
  for (const [i, ids] of prompts.entries()) {
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    check(
      wrong === undefined,
      'generate',
      'no such token',
      () => `prompt ${i}: ${wrong}, of ${vocabSize}`,
      'The tokenizer belongs to another model',
    );
    check(
      ids.length < maxPositions,
      'generate',
      'the prompt is longer than the context',
      () => `prompt ${i}: ${ids.length} tokens, the model has ${maxPositions} positions`,
      'Shorten it',
    );
  }
  return prompts.map((p) => Math.min(maxNewTokens, maxPositions - p.length));
}

/** One prompt's text as it grows. */
class Row {
  readonly index: number;
  finished = false;
  readonly #ends: ReadonlySet<number>;
  readonly #stopIds: ReadonlySet<number>;
  readonly #stopText: StopText;
  readonly #stream: ReturnType<Tokenizer['stream']> | undefined;

  constructor(index: number, model: CausalLm, { tokenizer, stop = [], eosTokenIds }: GenerateOptions) {
    const strings = stop.filter((s) => typeof s === 'string');
    check(
      strings.length === 0 || tokenizer,
      'generate',
      'stop strings need a tokenizer',
      () => strings.join(', '),
      'Pass { tokenizer }',
    );
    this.index = index;
    this.#ends = new Set(eosTokenIds ?? [...model.config.eosTokenIds, ...(tokenizer?.eosTokenIds ?? [])]);
    this.#stopIds = new Set(stop.filter((s) => typeof s === 'number'));
    this.#stopText = new StopText(strings);
    this.#stream = tokenizer?.stream();
  }

  take(id: number, last: boolean): GeneratedToken {
    const made = (text: string, finish?: FinishReason): GeneratedToken => {
      this.finished = finish !== undefined;
      return { prompt: this.index, id, text, ...(finish ? { finish } : {}) };
    };
    const ended = this.#ends.has(id) ? 'eos' : this.#stopIds.has(id) ? 'stop' : undefined;
    const piece = ended ? '' : (this.#stream?.push(id) ?? '');
    const { text, stopped } = this.#stopText.push(ended || last ? piece + (this.#stream?.end() ?? '') : piece);
    if (stopped) return made(text, 'stop');
    if (!ended && !last) return made(text);
    return made(text + this.#stopText.end(), ended ?? 'length');
  }
}
