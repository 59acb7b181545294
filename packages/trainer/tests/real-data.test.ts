import { join } from 'node:path';
import { loadTokenizer } from '@lowrank/models';
import { folderFiles } from '@lowrank/models/node';
import { expect, test } from 'vitest';
import { modelsDir, need, sharedPath } from '../../../scripts/testing/shared.ts';
import { encodeDataset } from '../src/index.ts';
import { readFileRecords } from '../src/node.ts';
import { readJson } from './support.ts';

const folder = 'SmolLM2-135M-Instruct';

test('GSM8K through the tokenizer of SmolLM2: answers and their ends are learnt, questions are not', async (context) => {
  const tokenizer = await loadTokenizer(await folderFiles(join(need(context, modelsDir()), folder)));
  const file = need(context, sharedPath('data/gsm8k/train.jsonl'));
  const options = { prompt: '{question}\n', completion: '{answer}', maxLength: 256 };
  const data = await encodeDataset(readFileRecords(file), tokenizer, options);
  expect(data).toMatchObject({ records: 7473, length: 7473, padTokenId: 2 });
  expect(data.truncated).toBeGreaterThan(100);
  const { gsm8k } = readJson('tokenizer/smollm2.json') as {
    gsm8k: { row: number; question: number[]; answer: number[] }[];
  };
  for (const { row, question, answer } of gsm8k) {
    const { ids, labels } = data.samples[row]!;
    const learnt = [...labels].filter((l) => l !== -100);
    const prompt = ids.length - learnt.length;
    expect(learnt).toEqual([...answer, 2].slice(0, 256 - prompt));
    expect([...ids.slice(prompt)]).toEqual(learnt);
    expect([...ids.slice(0, prompt)]).toEqual([...question, ...tokenizer.encode('\n', { addSpecialTokens: false })]);
  }
});

test('chats through the template of SmolLM2', async (context) => {
  const tokenizer = await loadTokenizer(await folderFiles(join(need(context, modelsDir()), folder)));
  const turn = (role: string, content: string) => ({ role, content });
  const messages = [
    turn('system', 'Be brief.'),
    turn('user', 'One?'),
    turn('assistant', 'Two.'),
    turn('user', 'Three?'),
    turn('assistant', 'Four.'),
  ];
  const [sample] = (await encodeDataset([{ messages }], tokenizer)).samples;
  expect(tokenizer.decode([...sample!.ids])).toBe(tokenizer.applyChatTemplate(messages));
  expect(tokenizer.decode([...sample!.labels].filter((l) => l !== -100))).toBe('Two.<|im_end|>Four.<|im_end|>');
});
