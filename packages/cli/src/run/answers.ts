import { type CausalLm, generate, type Tokenizer } from '@lowrank/models';
import { type Dataset, ignored, type Sample } from '@lowrank/trainer';
import type { Settings } from '../options/schema.ts';

/** A sample as text: what is given, what is to follow. */
export interface Question {
  readonly where: string;
  readonly promptIds: readonly number[];
  readonly prompt: string;
  readonly expected: string;
}

/** Cuts a sample where its first learnt token stands; undefined where nothing comes before that. */
function questionOf(sample: Sample, tokenizer: Tokenizer): Question | undefined {
  const ids = Array.from(sample.ids);
  const first = sample.labels.findIndex((label) => label !== ignored);
  if (first <= 0) return undefined;
  const text = (part: number[]) => tokenizer.decode(part, { skipSpecialTokens: true });
  // of a chat, the first answer
  const end = sample.labels.findIndex((label, i) => i > first && label === ignored);
  return {
    where: sample.where,
    promptIds: ids.slice(0, first),
    prompt: text(ids.slice(0, first)),
    expected: text(ids.slice(first, end < 0 ? undefined : end)),
  };
}

/** The first questions of a data set. */
export function questionsOf(data: Dataset, tokenizer: Tokenizer, limit: number): Question[] {
  const out: Question[] = [];
  for (const sample of data.samples) {
    if (out.length >= limit) break;
    const question = questionOf(sample, tokenizer);
    if (question) out.push(question);
  }
  return out;
}

/** How text is made, from the settings. */
export function sampling(settings: Settings): {
  maxNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
  stop: string[];
} {
  const { maxNewTokens = 128, temperature = 0, topK = 0, topP = 1, seed = 0, stop = [] } = settings;
  return { maxNewTokens, temperature, topK, topP, seed, stop };
}

/** Greedy answers to questions, many at a time. */
export async function answer(
  model: CausalLm,
  tokenizer: Tokenizer,
  questions: readonly Question[],
  options: { maxNewTokens: number; batchSize?: number; onProgress?: (done: number) => void; signal?: AbortSignal },
): Promise<string[]> {
  const { batchSize = 32, maxNewTokens, onProgress, signal } = options;
  // prompts of about one length share a batch: little is padded
  const order = questions
    .map((_, i) => i)
    .sort((a, b) => questions[a]!.promptIds.length - questions[b]!.promptIds.length);
  const out = new Array<string>(questions.length).fill('');
  for (let at = 0; at < order.length; at += batchSize) {
    const part = order.slice(at, at + batchSize);
    const prompts = part.map((i) => questions[i]!.promptIds);
    for await (const { prompt, text } of generate(model, prompts, {
      tokenizer,
      maxNewTokens,
      ...(signal ? { signal } : {}),
    }))
      out[part[prompt]!] += text;
    onProgress?.(at + part.length);
  }
  return out;
}

/** How many answers are the expected text, white space at the ends aside. */
export function exactMatches(questions: readonly Question[], answers: readonly string[]): number {
  return questions.filter(({ expected }, i) => answers[i]!.trim() === expected.trim()).length;
}
