import { LowrankError } from '@lowrank/tensor';
import type { Example } from './shapes.ts';
import { type DataTokenizer, endIds } from './tokenizer.ts';

/** Text of which either every token is learnt, or none. */
export interface Span {
  readonly text: string;
  readonly learn: boolean;
}

/**
 * A chat as the template writes it, cut into what assistants say and the rest. The cuts are found by rendering it turn by turn: what a
 * model sees before an assistant turn (with the generation prompt) is context, what the turn adds is learnt.
 */
export function chatSpans(
  example: Extract<Example, { kind: 'chat' }>,
  tokenizer: DataTokenizer,
  where: string,
  lossOn: 'completion' | 'last' | 'all',
): Span[] {
  const { messages, tools, learnFrom } = example;
  if (!tokenizer.applyChatTemplate)
    throw new LowrankError(
      'data',
      'the tokenizer has no chat template',
      where,
      'Use a model with one, or templates over columns',
    );
  const render = (count: number, addGenerationPrompt: boolean) => {
    try {
      return tokenizer.applyChatTemplate!(messages.slice(0, count), {
        addGenerationPrompt,
        ...(tools ? { tools } : {}),
      });
    } catch (cause) {
      throw new LowrankError(
        'data',
        'the chat template refuses the messages',
        `${where}: ${(cause as Error).message}`,
        '',
        { cause },
      );
    }
  };
  const whole = render(messages.length, false);
  if (lossOn === 'all') return [{ text: whole, learn: true }];
  const learnt = messages.flatMap((m, i) => (m.role === 'assistant' && i >= learnFrom ? [i] : []));
  const turns = lossOn === 'last' ? learnt.slice(-1) : learnt;
  const spans: Span[] = [];
  let done = '';
  for (const turn of turns) {
    const upTo = turn + 1 === messages.length ? whole : render(turn + 1, false);
    const prompts = [render(turn, true), turn > 0 ? render(turn, false) : ''];
    const prompt = prompts.find((p) => upTo.startsWith(p) && p.startsWith(done));
    if (prompt === undefined || !whole.startsWith(upTo))
      throw new LowrankError(
        'data',
        'the chat template does not render turn by turn',
        `${where}: turn ${turn + 1} reads otherwise when more turns follow`,
        "Set lossOn: 'last' to learn the last assistant turn alone, or 'all'",
      );
    spans.push({ text: prompt.slice(done.length), learn: false }, { text: upTo.slice(prompt.length), learn: true });
    done = upTo;
  }
  if (whole.length > done.length) spans.push({ text: whole.slice(done.length), learn: false });
  return spans.filter((s) => s.text !== '');
}

/** How many of a learnt turn's ids to learn: up to its end token, not the line break that templates put after it. */
export function learntLength(ids: readonly number[], tokenizer: DataTokenizer): { learn: number; ended: boolean } {
  const ends = endIds(tokenizer);
  for (let i = ids.length - 1; i >= 0; i--) if (ends.includes(ids[i]!)) return { learn: i + 1, ended: true };
  return { learn: ids.length, ended: false };
}
