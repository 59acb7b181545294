import { describe, expect, test } from 'vitest';
import { readCsv } from '../src/csv.ts';
import {
  type DataTokenizer,
  type EncodeOptions,
  encodeDataset,
  exampleOf,
  fillTemplate,
  type Message,
  readArray,
  readJson,
  readJsonl,
} from '../src/index.ts';

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of items) out.push(item);
  return out;
}

const eos = 1;

/** A token a character; `<s>`, `</s>` and `<pad>` are 2, 1 and 0. A template in the manner of ChatML. */
class CharTokenizer implements DataTokenizer {
  readonly eosTokenId = eos;
  readonly padTokenId = 0;
  readonly bos: boolean;

  constructor(bos = false) {
    this.bos = bos;
  }

  encode(text: string, { addSpecialTokens }: { addSpecialTokens: boolean }): number[] {
    const ids = text.split(/(<s>|<\/s>)/).flatMap((part) => {
      if (part === '<s>') return [2];
      if (part === '</s>') return [1];
      return [...part].map((c) => c.codePointAt(0)!);
    });
    return addSpecialTokens && this.bos ? [2, ...ids] : ids;
  }

  applyChatTemplate(
    messages: readonly { role: string; content?: unknown }[],
    options: { addGenerationPrompt: boolean },
  ) {
    const turns = messages.map((m) => `<s>${m.role}:${m.content}</s>\n`).join('');
    return turns + (options.addGenerationPrompt ? '<s>assistant:' : '');
  }
}

const chars = (text: string) => [...text].map((c) => c.codePointAt(0)!);
/** Ids and labels as text, masked labels as dots. */
const shown = (labels: Int32Array) =>
  [...labels].map((l) => (l === -100 ? '.' : l === 1 ? '$' : l === 2 ? '^' : String.fromCodePoint(l))).join('');

describe('readers', () => {
  const lines = '{"a":1}\n\n{"a":"ü"}\r\n{"a":3}';

  test('JSONL from every kind of input, whatever the pieces', async () => {
    const bytes = new TextEncoder().encode(lines);
    const pieces = async function* () {
      for (const b of bytes) yield Uint8Array.of(b);
    };
    const inputs = [
      lines,
      `\ufeff${lines}`,
      bytes,
      new Blob([bytes]),
      new Blob([bytes]).stream(),
      pieces(),
      { size: bytes.length, read: async (at: number, n: number) => bytes.slice(at, at + n) },
    ];
    for (const input of inputs) {
      const records = await all(readJsonl(input, { name: 'x.jsonl' }));
      expect(records).toEqual([
        { value: { a: 1 }, where: 'line 1 of x.jsonl' },
        { value: { a: 'ü' }, where: 'line 3 of x.jsonl' },
        { value: { a: 3 }, where: 'line 4 of x.jsonl' },
      ]);
    }
  });

  test('a broken line is named', async () => {
    const read = (text: string) => all(readJsonl(text, { name: 'x.jsonl' }));
    await expect(read('{"a":1}\n{"a":')).rejects.toThrow(/data: line is not JSON: line 2 of x\.jsonl/);
    await expect(read('{"a":1}\n[1]')).rejects.toThrow(/line 2 of x\.jsonl is an array/);
    await expect(read('[\n{"a":1}\n]')).rejects.toThrow(/one JSON array: read it as JSON/);
    await expect(all(readJsonl(Uint8Array.of(0x7b, 0xff, 0x7d)))).rejects.toThrow(/not UTF-8/);
  });

  test('JSON arrays', async () => {
    expect(await all(readJson('[{"a":1},{"a":2}]'))).toMatchObject([{ where: 'record 1' }, { value: { a: 2 } }]);
    await expect(all(readJson('{"data":[]}'))).rejects.toThrow(/must be an array of objects: an object with data/);
    await expect(all(readJson('[{"a":1},2]'))).rejects.toThrow(/record 2 is a number/);
    await expect(all(readJson('{"a":1}\n{"a":2}', { name: 'x.json' }))).rejects.toThrow(/x\.json.*JSONL/);
  });

  test('CSV and TSV', async () => {
    const csv = 'question,answer\n"2, or ""3""?",3\n"two\nlines",4\n';
    expect((await all(readCsv(csv))).map((r) => r.value)).toEqual([
      { question: '2, or "3"?', answer: '3' },
      { question: 'two\nlines', answer: '4' },
    ]);
    expect((await all(readCsv('a\tb\n1\t2\n', { delimiter: '\t' }))).map((r) => r.value)).toEqual([{ a: '1', b: '2' }]);
    expect((await all(readCsv('text\nfirst\nsecond\n'))).map((r) => r.value.text)).toEqual(['first', 'second']);
    await expect(all(readCsv('a,b\n1,2\n3\n', { name: 'x.csv' }))).rejects.toThrow(
      /record 2 of x\.csv: .*Columns: a, b/,
    );
  });
});

describe('shapes', () => {
  const example = (value: object, templates = {}) => exampleOf([...readArray([value])][0]!, templates);

  test('known shapes', () => {
    expect(example({ prompt: 'p', completion: 'c' })).toEqual({ kind: 'pair', prompt: 'p', completion: 'c' });
    expect(example({ text: 't' })).toEqual({ kind: 'text', text: 't' });
    const user = { role: 'user', content: 'u' };
    const assistant = { role: 'assistant', content: 'a' };
    expect(example({ messages: [user, assistant] })).toEqual({
      kind: 'chat',
      messages: [user, assistant],
      learnFrom: 0,
    });
    expect(example({ prompt: [user, assistant, user], completion: [assistant] })).toMatchObject({ learnFrom: 3 });
    expect(
      example({
        conversations: [
          { from: 'human', value: 'u' },
          { from: 'gpt', value: 'a' },
        ],
      }),
    ).toEqual({
      kind: 'chat',
      messages: [user, assistant],
      learnFrom: 0,
    });
    const alpaca = example({ instruction: 'Add.', input: '1 2', output: '3' });
    expect(alpaca).toMatchObject({ kind: 'pair', completion: '3' });
    expect(alpaca.kind === 'pair' && alpaca.prompt).toContain(
      '### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n',
    );
    const bare = example({ instruction: 'Sing.', input: '', output: 'la' });
    expect(bare.kind === 'pair' && bare.prompt).not.toContain('Input');
  });

  test('templates', () => {
    const [record] = readArray([{ question: 'why', answer: 42, none: null, list: [] }]);
    expect(fillTemplate('{question}? {{{answer}}}', record!)).toBe('why? {42}');
    expect(example(record!.value, { prompt: '{question}\n', completion: '{answer}' })).toEqual({
      kind: 'pair',
      prompt: 'why\n',
      completion: '42',
    });
    expect(() => fillTemplate('{questoin}', record!)).toThrow(
      'data: column missing: record 1 has no "questoin"; its columns: question, answer, none, list. Did you mean {question}?',
    );
    expect(() => fillTemplate('{none}', record!)).toThrow(/column missing/);
    expect(() => fillTemplate('{constructor}', record!)).toThrow(/column missing/);
    expect(() => fillTemplate('{list}', record!)).toThrow(/"list" is a list/);
    expect(() => example(record!.value, { prompt: '{question}' })).toThrow(/needs a completion template/);
  });

  test('what has no known shape says what it has', () => {
    expect(() => example({ q: 'x', a: 'y' })).toThrow(/record 1 has columns q, a\. Known: messages;.*\{question\}/);
    expect(() => example({ messages: 'hello' })).toThrow(/messages must be a list/);
    expect(() => example({ messages: [{ role: 'user', content: 'u' }] })).toThrow(/assistant turn.*roles user/);
    expect(() => example({ conversations: [{ from: 'alien', value: 'x' }] })).toThrow(
      /unknown speaker: record 1: "alien"/,
    );
    expect(() => example({ conversations: [{ from: 'toString', value: 'x' }] })).toThrow(/unknown speaker/);
  });
});

describe('encoding', () => {
  const encode = async (
    records: object[],
    options: EncodeOptions = {},
    tokenizer: DataTokenizer = new CharTokenizer(),
  ) => encodeDataset(records, tokenizer, options);
  const one = async (record: object, options: EncodeOptions = {}, tokenizer?: DataTokenizer) =>
    (await encode([record], options, tokenizer)).samples[0]!;

  test('the completion and its end are learnt, the prompt is not', async () => {
    const sample = await one({ prompt: 'ab', completion: 'cd' });
    expect([...sample.ids]).toEqual([...chars('abcd'), eos]);
    expect(shown(sample.labels)).toBe('..cd$');
    expect(shown((await one({ prompt: 'ab', completion: 'cd' }, { lossOn: 'all' })).labels)).toBe('abcd$');
    expect(shown((await one({ prompt: 'ab', completion: 'cd' }, { appendEos: false })).labels)).toBe('..cd');
    expect(shown((await one({ text: 'abc' })).labels)).toBe('abc$');
    const withBos = await one({ prompt: 'ab', completion: 'cd' }, {}, new CharTokenizer(true));
    expect([...withBos.ids]).toEqual([2, ...chars('abcd'), eos]);
    expect(shown(withBos.labels)).toBe('...cd$');
  });

  test('a tokenizer that ends every text does not end prompts', async () => {
    const ending: DataTokenizer = {
      eosTokenId: eos,
      encode: (text, { addSpecialTokens }) => [...chars(text), ...(addSpecialTokens ? [eos] : [])],
    };
    expect(shown((await one({ prompt: 'ab', completion: 'c' }, { lossOn: 'all' }, ending)).labels)).toBe('abc$');
    expect(shown((await one({ text: 'ab' }, {}, ending)).labels)).toBe('ab$');
  });

  const chat = {
    messages: [
      { role: 'user', content: 'u1' },
      { role: 'assistant', content: 'a1' },
      { role: 'user', content: 'u2' },
      { role: 'assistant', content: 'a2' },
    ],
  };

  test('of chats, assistant turns are learnt up to their end', async () => {
    const whole = '<s>user:u1</s>\n<s>assistant:a1</s>\n<s>user:u2</s>\n<s>assistant:a2</s>\n';
    const tokenizer = new CharTokenizer();
    const sample = await one(chat);
    expect([...sample.ids]).toEqual(tokenizer.encode(whole, { addSpecialTokens: false }));
    const mask = (text: string) => '.'.repeat(text.length);
    const user = mask('^user:u1$\n');
    const assistant = mask('^assistant:');
    expect(shown(sample.labels)).toBe(`${user}${assistant}a1$.${user}${assistant}a2$.`);
    expect(shown((await one(chat, { lossOn: 'last' })).labels)).toBe(
      `${mask('^user:u1$\n^assistant:a1$\n')}${user}${assistant}a2$.`,
    );
    expect(shown((await one(chat, { lossOn: 'all' })).labels)).toBe(
      '^user:u1$\n^assistant:a1$\n^user:u2$\n^assistant:a2$\n',
    );
    const pair = { prompt: chat.messages.slice(0, 3), completion: chat.messages.slice(3) };
    expect(shown((await one(pair)).labels)).toBe(`${mask('^user:u1$\n^assistant:a1$\n')}${user}${assistant}a2$.`);
  });

  test('a template that ends no turn gets an end that is learnt', async () => {
    const bare: DataTokenizer = {
      eosTokenId: eos,
      encode: (text) => chars(text),
      applyChatTemplate: (messages) => messages.map((m) => `${m.role[0]}:${m.content}\n`).join(''),
    };
    const sample = await one({ messages: chat.messages.slice(0, 2) }, {}, bare);
    expect(shown(sample.labels).endsWith('a:a1\n$')).toBe(true);
  });

  test('a template that rewrites earlier turns: each is learnt as it stands in the whole', async () => {
    const rewriting: DataTokenizer = {
      eosTokenId: eos,
      encode: (text) => chars(text),
      applyChatTemplate: (messages, { addGenerationPrompt }) =>
        messages
          .map(
            (m, i) =>
              `${m.role[0]}:${m.role === 'assistant' && i + 1 === messages.length ? '(think)' : ''}${m.content}\n`,
          )
          .join('') + (addGenerationPrompt ? 'a:' : ''),
    };
    const hidden = (text: string) => '.'.repeat(text.length);
    const [asked, again] = [hidden('u:u1\na:'), hidden('u:u2\na:')];
    expect(shown((await one(chat, {}, rewriting)).labels)).toBe(`${asked}a1\n$${again}(think)a2\n$`);
    // a user who has the last word changes what the last answer looks like
    const open = { messages: [...chat.messages, { role: 'user', content: 'u3' }] };
    expect(shown((await one(open, { lossOn: 'last' }, rewriting)).labels)).toBe(
      `${hidden('u:u1\na:a1\nu:u2\na:')}a2\n$${hidden('u:u3\n')}`,
    );
    const forgetful = {
      ...rewriting,
      applyChatTemplate: (messages: readonly Message[]) =>
        messages
          .slice(-2)
          .map((m) => `${m.content}\n`)
          .join(''),
    };
    await expect(one(chat, {}, forgetful)).rejects.toThrow(/leaves a turn out: record 1: turn 2.*lossOn: 'last'/);
    expect(shown((await one(chat, { lossOn: 'last' }, forgetful)).labels)).toBe(`${hidden('u2\n')}a2\n$`);
    const newest = { ...rewriting, applyChatTemplate: (messages: readonly Message[]) => `${messages.at(-1)?.content}` };
    await expect(one(open, { lossOn: 'last' }, newest)).rejects.toThrow(/turn 4 .*Set lossOn: 'all'/);
    const throwing = {
      ...rewriting,
      applyChatTemplate: () => {
        throw new Error('roles must alternate');
      },
    };
    await expect(one(chat, {}, throwing)).rejects.toThrow(/chat template refuses.*record 1: roles must alternate/);
    await expect(one(chat, {}, { eosTokenId: eos, encode: chars })).rejects.toThrow(/no chat template/);
  });

  test('long samples are cut and counted, or refused', async () => {
    const data = await encode(
      [
        { prompt: 'ab', completion: 'cdef' },
        { prompt: 'a', completion: 'b' },
      ],
      { maxLength: 4 },
    );
    expect(data.truncated).toBe(1);
    expect(shown(data.samples[0]!.labels)).toBe('..cd');
    const long = [{ prompt: 'ab', completion: 'cdef' }];
    await expect(encode(long, { contextLength: 5 })).rejects.toThrow(
      /longer than the context.*record 1: 7 tokens, 5 fit.*maxLength/,
    );
    await expect(encode(long, { maxLength: 5, truncation: false })).rejects.toThrow(/longer than maxLength/);
    await expect(encode(long, { maxLength: 9, contextLength: 8 })).rejects.toThrow(/maxLength exceeds/);
    expect((await encode(long, { maxLength: 5, contextLength: 8 })).samples[0]!.ids).toHaveLength(5);
  });

  test('a sample of which nothing is learnt is an error, or left out and counted', async () => {
    const records = [
      { prompt: 'a', completion: 'b' },
      { prompt: 'abcdef', completion: 'g' },
    ];
    await expect(encode(records, { maxLength: 4 })).rejects.toThrow(
      /all its labels are masked: record 2: 4 tokens, cut at 4.*onMasked/,
    );
    const data = await encode(records, { maxLength: 4, onMasked: 'drop' });
    expect([data.length, data.records, data.dropped]).toEqual([1, 2, ['record 2']]);
    await expect(encode(records.slice(1), { maxLength: 4, onMasked: 'drop' })).rejects.toThrow(
      /no sample to learn from: 1 records, 1/,
    );
    await expect(encode([])).rejects.toThrow(/there are no records/);
    // the first token of all is never predicted
    await expect(encode([{ text: '' }], {})).rejects.toThrow(/all its labels are masked/);
  });

  test('other settings that cannot be meant', async () => {
    await expect(encode([{ text: 'a' }], { maxLength: 1 })).rejects.toThrow(/maxLength must be/);
    await expect(encode([{ text: 'a' }], {}, { encode: chars })).rejects.toThrow(/no end-of-sequence token/);
  });

  test('digests tell data apart', async () => {
    const digest = async (text: string, options = {}) =>
      (await encode([{ prompt: 'a', completion: text }], options)).fingerprint();
    const digests = await Promise.all([digest('bc'), digest('cb'), digest('bcd'), digest('bc', { lossOn: 'all' })]);
    expect(new Set(digests).size).toBe(4);
    expect(await digest('bc')).toBe(digests[0]);
  });
});
