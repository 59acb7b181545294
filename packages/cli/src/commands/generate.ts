import { generate } from '@lowrank/models';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { rate } from '../report/format.ts';
import { sampling } from '../run/answers.ts';
import { openSession } from '../run/session.ts';

/** `lowrank generate`: the text, as it comes, on standard output. */
export async function generateCommand(settings: Settings, ui: Console): Promise<number> {
  await using session = await openSession(settings, ui);
  const { model, tokenizer } = session;
  const { prompt = '', chat, system } = settings;
  const messages = [...(system ? [{ role: 'system', content: system }] : []), { role: 'user', content: prompt }];
  const asked =
    chat || system ? tokenizer.encodeChat(messages, { addGenerationPrompt: true }) : tokenizer.encode(prompt);
  const ids: number[] = [];
  let text = '';
  let finish: string | undefined;
  const start = performance.now();
  for await (const token of generate(model, asked.length ? asked : prompt, { ...sampling(settings), tokenizer })) {
    ids.push(token.id);
    text += token.text;
    finish = token.finish;
    if (!ui.json) ui.write(token.text);
  }
  const seconds = (performance.now() - start) / 1000;
  if (!ui.json) ui.write('\n');
  ui.emit({ prompt, text, promptTokens: asked.length, tokens: ids.length, ids, finish, seconds });
  ui.note(`${ids.length} tokens, ${rate(ids.length / seconds)}`);
  return 0;
}
