import { LowrankError } from '@lowrank/tensor';
import type { Message } from './shapes.ts';

/** The tokenizer that the caller brings; the one of `@lowrank/models` fits. */
export interface DataTokenizer {
  encode(text: string, options: { addSpecialTokens: boolean }): ArrayLike<number>;
  /** The chat as text, as the model was taught to read it. */
  applyChatTemplate?(
    messages: readonly Message[],
    options: { addGenerationPrompt: boolean; tools?: readonly unknown[] },
  ): string;
  readonly eosTokenId?: number | undefined;
  /** Where there are several, the first ends completions. */
  readonly eosTokenIds?: readonly number[] | undefined;
  readonly padTokenId?: number | undefined;
}

/** Ids that end a completion; the first is the one to append. */
export function endIds(tokenizer: DataTokenizer): readonly number[] {
  const ids = [tokenizer.eosTokenId, ...(tokenizer.eosTokenIds ?? [])].filter((id) => id !== undefined && id !== null);
  return [...new Set(ids as number[])];
}

/** The id to append to completions. */
export function endId(tokenizer: DataTokenizer): number {
  const id = endIds(tokenizer)[0];
  if (id === undefined)
    throw new LowrankError(
      'data',
      'the tokenizer has no end-of-sequence token',
      '',
      'Give it an eosTokenId, or set appendEos: false',
    );
  return id;
}
