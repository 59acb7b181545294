import { type Dataset, type Evaluation, evaluate } from '@lowrank/trainer';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { percent } from '../report/format.ts';
import { answer, exactMatches, questionsOf } from '../run/answers.ts';
import { loadDataset } from '../run/data.ts';
import { openSession, type Session } from '../run/session.ts';

/** `lowrank eval` */
export async function evalCommand(settings: Settings, ui: Console): Promise<number> {
  let read: Dataset | undefined;
  await using session = await openSession(settings, ui, {
    read: async ({ config }, tokenizer) => {
      read = await loadDataset(settings.data!, tokenizer, config.config, settings, ui);
    },
  });
  const { model, device, tokenizer } = session;
  const data = read!;
  const start = performance.now();
  const result: Evaluation = await evaluate(device, trainable(session), data, {
    batchSize: settings.batchSize ?? 8,
    ...(settings.chunkRows ? { chunkRows: settings.chunkRows } : {}),
    onProgress: (done, of) => ui.status(`evaluating: ${done} of ${of} samples`),
  });
  const seconds = (performance.now() - start) / 1000;
  let exact: { matches: number; asked: number } | undefined;
  if (settings.exactMatch) {
    const questions = questionsOf(data, tokenizer, data.length);
    const answers = await answer(model, tokenizer, questions, {
      maxNewTokens: settings.maxNewTokens ?? 128,
      onProgress: (n) => ui.status(`answering: ${n} of ${questions.length}`),
    });
    exact = { matches: exactMatches(questions, answers), asked: questions.length };
  }
  ui.clear();
  const share = exact && exact.matches / exact.asked;
  ui.emit({
    ...result,
    seconds,
    ...(exact ? { exactMatch: share, exactMatches: exact.matches, asked: exact.asked } : {}),
  });
  if (!ui.json) {
    ui.say(
      `loss ${ui.bold(result.loss.toFixed(6))}, perplexity ${result.perplexity.toFixed(4)}, over ${result.tokens} tokens of ${result.samples} samples`,
    );
    if (exact) ui.say(`exact answers: ${exact.matches} of ${exact.asked} (${percent(share!)})`);
  }
  return 0;
}

/** A loaded model as the trainer's functions take it. */
export function trainable({ model, lora }: Pick<Session, 'model' | 'lora'>) {
  return {
    parameters: () => lora?.trainableParameters() ?? [],
    hidden: model.hidden.bind(model),
    head: model.head.bind(model),
    prepare: (length: number) => void model.prepare(length),
  };
}
