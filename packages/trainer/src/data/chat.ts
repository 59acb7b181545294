import { LowrankError } from '@lowrank/tensor';
import type { Example, Message } from './shapes.ts';
import { type DataTokenizer, endIds } from './tokenizer.ts';

/** Text of which either every token is learnt, or none. */
export interface Span {
  readonly text: string;
  readonly learn: boolean;
}

/** A text that no template looks into, and none trims. */
const mark = '\u0001\u0002';

type Render = (messages: readonly Message[], addGenerationPrompt: boolean) => string;

/** Where a turn stands in the text of the whole conversation. */
interface Place {
  readonly start: number;
  readonly end: number;
}

/** Of a template that renders turn by turn: what the turn adds to the text before it, with the generation prompt. */
function addedBy(turn: number, messages: readonly Message[], whole: string, from: number, render: Render) {
  const upTo = turn + 1 === messages.length ? whole : render(messages.slice(0, turn + 1), false);
  if (!whole.startsWith(upTo)) return undefined;
  const before = messages.slice(0, turn);
  const prompts = [render(before, true), turn > 0 ? render(before, false) : ''];
  const prompt = prompts.find((p) => upTo.startsWith(p) && p.length >= from);
  return prompt === undefined ? undefined : { start: prompt.length, end: upTo.length };
}

/**
 * Of a template that writes a turn otherwise once more turns follow (it drops what the model thought, say): the turn as it stands in the
 * whole, with what closes it. It is found by putting a mark in its place.
 */
function placeInWhole(turn: number, messages: readonly Message[], whole: string, from: number, render: Render) {
  if (typeof messages[turn]!.content !== 'string') return undefined;
  const marked = messages.with(turn, { ...messages[turn]!, content: mark });
  const around = (list: readonly Message[]) => {
    const [before, after, ...more] = render(list, false).split(mark);
    return after === undefined || more.length ? undefined : { before: before!, after };
  };
  const [there, last] = [around(marked), around(marked.slice(0, turn + 1))];
  if (!there || !last) return undefined;
  const { before, after } = there;
  if (!whole.startsWith(before) || !whole.endsWith(after) || before.length < from) return undefined;
  const prompt = render(messages.slice(0, turn), true);
  const start =
    whole.startsWith(prompt) && prompt.length >= from ? Math.min(prompt.length, before.length) : before.length;
  let closing = 0;
  while (closing < Math.min(after.length, last.after.length) && after[closing] === last.after[closing]) closing++;
  const end = whole.length - after.length + closing;
  return end > start ? { start, end } : undefined;
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
  const render: Render = (list, addGenerationPrompt) => {
    try {
      return tokenizer.applyChatTemplate!(list, { addGenerationPrompt, ...(tools ? { tools } : {}) });
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
  const whole = render(messages, false);
  if (lossOn === 'all') return [{ text: whole, learn: true }];
  const learnt = messages.flatMap((m, i) => (m.role === 'assistant' && i >= learnFrom ? [i] : []));
  const turns = lossOn === 'last' ? learnt.slice(-1) : learnt;
  const spans: Span[] = [];
  let done = 0;
  for (const turn of turns) {
    const place: Place | undefined =
      addedBy(turn, messages, whole, done, render) ?? placeInWhole(turn, messages, whole, done, render);
    if (!place)
      throw new LowrankError(
        'data',
        'the chat template leaves a turn out',
        `${where}: turn ${turn + 1} is not found in the text of the conversation`,
        lossOn === 'last' ? "Set lossOn: 'all'" : "Set lossOn: 'last' to learn the last assistant turn alone, or 'all'",
      );
    spans.push(
      { text: whole.slice(done, place.start), learn: false },
      { text: whole.slice(place.start, place.end), learn: true },
    );
    done = place.end;
  }
  if (whole.length > done) spans.push({ text: whole.slice(done), learn: false });
  return spans.filter((s) => s.text !== '');
}

/** How many of a learnt turn's ids to learn: up to its end token, not the line break that templates put after it. */
export function learntLength(ids: readonly number[], tokenizer: DataTokenizer): { learn: number; ended: boolean } {
  const ends = endIds(tokenizer);
  for (let i = ids.length - 1; i >= 0; i--) if (ends.includes(ids[i]!)) return { learn: i + 1, ended: true };
  return { learn: ids.length, ended: false };
}
