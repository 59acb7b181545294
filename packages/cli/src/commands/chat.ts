import { createInterface } from 'node:readline/promises';
import { type ChatMessage, generate } from '@lowrank/models';
import { LowrankError } from '@lowrank/tensor';
import type { Settings } from '../options/schema.ts';
import type { Console } from '../report/console.ts';
import { sampling } from '../run/answers.ts';
import { openSession } from '../run/session.ts';

/** `lowrank chat`: a conversation, line by line. Also reads lines of a pipe. */
export async function chat(settings: Settings, ui: Console): Promise<number> {
  await using session = await openSession(settings, ui);
  const { model, tokenizer } = session;
  if (!tokenizer.hasChatTemplate)
    throw new LowrankError(
      'chat',
      'the model has no chat template',
      session.subject.files.name,
      'Continue texts with lowrank generate',
    );
  const options = {
    ...sampling(settings),
    temperature: settings.temperature ?? 0.7,
    maxNewTokens: settings.maxNewTokens ?? 512,
  };
  const opening: ChatMessage[] = settings.system ? [{ role: 'system', content: settings.system }] : [];
  let messages = [...opening];
  const lines = createInterface({
    input: process.stdin,
    output: process.stderr,
    prompt: '› ',
    terminal: process.stdin.isTTY,
  });
  let speaking: AbortController | undefined;
  lines.on('SIGINT', () => (speaking ? speaking.abort() : lines.close()));
  const ask = () => process.stdin.isTTY && lines.prompt();
  if (process.stdin.isTTY) ui.note('/reset begins anew, /exit leaves; Ctrl-C stops an answer');
  const context = session.subject.config.config.maxPositions;
  ask();
  for await (const line of lines) {
    const said = line.trim();
    if (said === '/exit') break;
    if (said === '/reset') messages = [...opening];
    else if (said) {
      const asked: ChatMessage[] = [...messages, { role: 'user', content: said }];
      const ids = tokenizer.encodeChat(asked, { addGenerationPrompt: true });
      if (ids.length >= context) {
        ui.note(`${ids.length} tokens, and the model reads ${context}: say it shorter, or begin anew with /reset`);
        ask();
        continue;
      }
      messages = asked;
      speaking = new AbortController();
      let text = '';
      try {
        for await (const token of generate(model, ids, { ...options, tokenizer, signal: speaking.signal })) {
          text += token.text;
          if (!ui.json) ui.write(token.text);
        }
      } catch (error) {
        if (!speaking.signal.aborted) throw error;
      }
      speaking = undefined;
      messages.push({ role: 'assistant', content: text });
      if (!ui.json) ui.write('\n');
      ui.emit({ role: 'assistant', content: text });
    }
    ask();
  }
  lines.close();
  return 0;
}
