import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as LibraryTokenizer, SplitPreTokenizer } from '@huggingface/tokenizers';
import { bytesSource, type GgufValue, GgufWriter, MemorySink, openGguf } from '@lowrank/formats';
import { fileSource } from '@lowrank/formats/node';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { modelsDir, need, sharedPath } from '../../../scripts/testing/shared.ts';
import { blobFiles, ggufFiles, ggufTokenizer, loadTokenizer, Tokenizer } from '../src/index.ts';
import { folderFiles } from '../src/node.ts';
import { bpeStyle } from '../src/tokenizer/pre-tokenizers.ts';
import { wordSplitter } from '../src/tokenizer/words.ts';
import { readJsonFile } from './helpers.ts';
import { letters, toyTokenizer } from './toy-tokenizer.ts';

interface Recorded {
  special: Record<'bos' | 'eos' | 'pad' | 'unk', number>;
  vocabulary: number;
  gsm8k: { row: number; question: number[]; answer: number[] }[];
  texts: { text: string; ids: number[]; decoded: string; decodedSkip: string }[];
  chats: {
    messages: { role: string; content: string }[];
    rendered: string;
    renderedPrompt: string;
    ids: number[];
    idsPrompt: number[];
  }[];
  /** Every question and answer of GSM8K in turn, by the rule of the folder's tokenizer.json and by that of the published one. */
  wholeGsm8k: { texts: number; folder: Reading; published: Reading };
}
/** Ids of many texts by one rule: how many, and the digest of them all as little-endian i32. */
interface Reading {
  preTokenizer: Record<string, unknown>;
  tokens: number;
  sha256: string;
}
const recorded = readJsonFile<Recorded>('tokenizer', 'smollm2.json');

const models = modelsDir();
const gguf = (path: string) => join(path, 'SmolLM2-135M-Instruct.Q4_1.gguf');
let folder: Tokenizer;
let file: Tokenizer;
beforeAll(async () => {
  if (models.path === undefined) return;
  folder = await loadTokenizer(await folderFiles(join(models.path, 'SmolLM2-135M-Instruct')));
  file = await loadTokenizer(await folderFiles(gguf(models.path)));
});

/** Questions and answers of GSM8K in turn. */
function gsm8k(path: string): string[] {
  const rows = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { question: string; answer: string });
  return rows.flatMap(({ question, answer }) => [question, answer]);
}

describe('SmolLM2', () => {
  test('the folder’s tokenizer gives the ids of transformers', (context) => {
    need(context, models);
    for (const { text, ids, decoded, decodedSkip } of recorded.texts) {
      expect(folder.encode(text), JSON.stringify(text)).toEqual(ids);
      expect(folder.decode(ids), JSON.stringify(text)).toBe(decoded);
      expect(folder.decode(ids, { skipSpecialTokens: true }), JSON.stringify(text)).toBe(decodedSkip);
    }
    const texts = gsm8k(need(context, sharedPath('data/gsm8k/train.jsonl')));
    for (const { row, question, answer } of recorded.gsm8k) {
      expect(folder.encode(texts[2 * row]!)).toEqual(question);
      expect(folder.encode(texts[2 * row + 1]!)).toEqual(answer);
    }
  });

  test('special tokens and chats are those of transformers, from the folder and from the GGUF', (context) => {
    need(context, models);
    for (const tokenizer of [folder, file]) {
      const { bosTokenId: bos, eosTokenId: eos, padTokenId: pad, unkTokenId: unk, eosTokenIds, vocabSize } = tokenizer;
      expect({ bos, eos, pad, unk }).toEqual(recorded.special);
      expect(eosTokenIds).toEqual([2]);
      expect(vocabSize).toBe(recorded.vocabulary);
      for (const { messages, rendered, renderedPrompt, ids, idsPrompt } of recorded.chats) {
        expect(tokenizer.applyChatTemplate(messages)).toBe(rendered);
        expect(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })).toBe(renderedPrompt);
        expect(tokenizer.encodeChat(messages)).toEqual(ids);
        expect(tokenizer.encodeChat(messages, { addGenerationPrompt: true })).toEqual(idsPrompt);
      }
    }
  });

  test('its files, written out, are the same tokenizer', async (context) => {
    need(context, models);
    const text = new TextEncoder();
    for (const tokenizer of [folder, file]) {
      const again = await loadTokenizer(
        blobFiles([...tokenizer.files()].map(([name, t]) => [name, text.encode(t)] as const)),
      );
      for (const { text: t } of recorded.texts) expect(again.encode(t)).toEqual(tokenizer.encode(t));
      for (const { messages, rendered } of recorded.chats) expect(again.applyChatTemplate(messages)).toBe(rendered);
      expect(again).toMatchObject({ bosTokenId: 1, eosTokenIds: [2], padTokenId: 2, unkTokenId: 0 });
    }
    const named = new Map([
      ['default', 'plain'],
      ['tool_use', 'tools'],
    ]);
    const toy = new Tokenizer({ ...toyTokenizer().parts, chatTemplates: named });
    const again = await loadTokenizer(blobFiles([...toy.files()].map(([name, t]) => [name, text.encode(t)] as const)));
    expect([again.applyChatTemplate([]), again.applyChatTemplate([], { tools: [] })]).toEqual(['plain', 'tools']);
  });

  test('remembered words change nothing: the library alone gives the same ids', (context) => {
    need(context, models);
    const library = new LibraryTokenizer(folder.parts.json, folder.parts.config!);
    const texts = gsm8k(need(context, sharedPath('data/gsm8k/train.jsonl'))).slice(0, 300);
    for (const text of [...texts, 'a<|im_end|>b<|im_end|><|im_start|>', '<|im_start|>'])
      expect(folder.encode(text)).toEqual(library.encode(text).ids);
  });

  test('streamed text is the decoded text, for any tokens', (context) => {
    need(context, models);
    const ids = fc.array(fc.oneof(fc.nat(49151), fc.constantFrom(0, 1, 2), fc.integer({ min: 17, max: 280 })), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(ids, fc.boolean(), (list, skipSpecialTokens) => {
        const stream = folder.stream({ skipSpecialTokens });
        const parts = list.map((id) => stream.push(id));
        expect(parts.join('') + stream.end()).toBe(folder.decode(list, { skipSpecialTokens }));
      }),
      { numRuns: 1000 },
    );
  });

  test('encode then decode gives the text back', (context) => {
    need(context, models);
    const text = fc.string({ unit: 'grapheme', maxLength: 60 });
    fc.assert(
      fc.property(text, (t) => {
        expect(folder.decode(folder.encode(t))).toBe(t);
      }),
      { numRuns: 500 },
    );
  });
});

describe('every question and answer of GSM8K', () => {
  const llama = readJsonFile<{
    texts: number;
    tokens: number;
    sha256: string;
    differing: { row: number; key: 'question' | 'answer'; ids: number[] }[];
  }>('tokenizer', 'smollm2-llamacpp.json');
  const { folder: byFolder, published, texts: count } = recorded.wholeGsm8k;
  let texts: string[];
  beforeAll(() => {
    const path = sharedPath('data/gsm8k/train.jsonl').path;
    texts = path === undefined ? [] : gsm8k(path);
  });

  function expectReading(tokenizer: Tokenizer, { tokens, sha256 }: Pick<Reading, 'tokens' | 'sha256'>): void {
    expect(texts).toHaveLength(count);
    const ids = Int32Array.from(texts.flatMap((text) => tokenizer.encode(text)));
    expect(ids).toHaveLength(tokens);
    expect(createHash('sha256').update(new Uint8Array(ids.buffer)).digest('hex')).toBe(sha256);
  }

  test('has one and the same ids in the GGUF, in llama.cpp, and in the tokenizer.json that SmolLM2 is published with', (context) => {
    need(context, models);
    need(context, sharedPath('data/gsm8k/train.jsonl'));
    expectReading(file, published);
    expect({ tokens: llama.tokens, sha256: llama.sha256 }).toEqual({
      tokens: published.tokens,
      sha256: published.sha256,
    });
    const json = { ...folder.parts.json, pre_tokenizer: published.preTokenizer };
    expectReading(new Tokenizer({ ...folder.parts, json }), published);
  });

  // transformers, which made the folder of the GGUF, leaves out the rule of `tokenizer.ggml.pre: smollm` that every digit is a word
  test('has the ids of a tokenizer.json without the rule for digits where the GGUF is read without it', async (context) => {
    const path = need(context, models);
    need(context, sharedPath('data/gsm8k/train.jsonl'));
    expect(folder.parts.json.pre_tokenizer).toEqual(byFolder.preTokenizer);
    expectReading(folder, byFolder);
    expectReading(await loadTokenizer(await folderFiles(gguf(path)), { preTokenizer: 'gpt-2' }), byFolder);
    const differing = texts.flatMap((text, i) => {
      const ids = file.encode(text);
      const same = ids.join() === folder.encode(text).join();
      return same ? [] : [{ row: i >> 1, key: i % 2 ? 'answer' : 'question', ids }];
    });
    expect(differing).toEqual(llama.differing);
  });
});

test('words are cut as the Rust tokenizers cut them, by every rule that GGUF files name', () => {
  const { styles, texts, words } = readJsonFile<{
    styles: Record<string, Record<string, unknown>>;
    texts: string[];
    words: Record<string, string[][]>;
  }>('tokenizer', 'words.json');
  const compile = (regex: string) =>
    new SplitPreTokenizer({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false }).pattern ??
    undefined;
  const spell = (word: string) => Array.from(new TextEncoder().encode(word), (b) => letters[b]).join('');
  for (const [pre, style] of Object.entries(styles)) {
    expect(bpeStyle(pre).preTokenizer, pre).toEqual(style);
    const split = wordSplitter({ normalizer: null, pre_tokenizer: style, model: { type: 'BPE' } }, compile)!;
    for (const [i, text] of texts.entries())
      expect(split(text).map(spell), `${pre}: ${JSON.stringify(text)}`).toEqual(words[pre]![i]);
  }
});

async function ggufOf(metadata: Record<string, GgufValue>): Promise<Uint8Array> {
  const sink = new MemorySink();
  await new GgufWriter(sink, [], new Map(Object.entries(metadata))).finish();
  return sink.bytes.slice();
}

const string = (value: string): GgufValue => ({ type: 'string', value });
const strings = (value: string[]): GgufValue => ({ type: 'array', itemType: 'string', value });
const u32 = (value: number): GgufValue => ({ type: 'uint32', value });
const bool = (value: boolean): GgufValue => ({ type: 'bool', value });

describe('a SentencePiece vocabulary', () => {
  const { pieces, texts } = readJsonFile<{
    pieces: [string, number, number][];
    texts: { text: string; ids: number[]; decoded: string }[];
  }>('tokenizer', 'sentencepiece.json');
  const metadata = (extra: Record<string, GgufValue> = {}) => ({
    'tokenizer.ggml.model': string('llama'),
    'tokenizer.ggml.tokens': strings(pieces.map(([text]) => text)),
    'tokenizer.ggml.scores': {
      type: 'array',
      itemType: 'float32',
      value: Float32Array.from(pieces, ([, score]) => score),
    } as GgufValue,
    'tokenizer.ggml.token_type': {
      type: 'array',
      itemType: 'int32',
      value: Int32Array.from(pieces, ([, , type]) => type),
    } as GgufValue,
    'tokenizer.ggml.unknown_token_id': u32(0),
    'tokenizer.ggml.bos_token_id': u32(1),
    'tokenizer.ggml.eos_token_id': u32(2),
    ...extra,
  });
  const load = async (extra?: Record<string, GgufValue>) =>
    loadTokenizer(ggufFiles(bytesSource(await ggufOf(metadata(extra)), 'spm.gguf')));

  test('gives SentencePiece’s ids and texts', async () => {
    const tokenizer = await load();
    for (const { text, ids, decoded } of texts) {
      expect(tokenizer.encode(text, { addSpecialTokens: false }), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
      const stream = tokenizer.stream();
      expect(ids.map((id) => stream.push(id)).join('') + stream.end(), JSON.stringify(text)).toBe(decoded);
    }
  });

  test('begins with BOS unless the file says otherwise; control tokens are cut out first', async () => {
    const tokenizer = await load();
    const bare = (t: Tokenizer, text: string) => t.encode(text, { addSpecialTokens: false });
    expect(tokenizer.encode('Hello')).toEqual([1, ...bare(tokenizer, 'Hello')]);
    expect(bare(tokenizer, '<s>Hello</s>')).toEqual([1, ...bare(tokenizer, 'Hello'), 2]);
    expect(tokenizer.decode([1, ...bare(tokenizer, 'Hello'), 2], { skipSpecialTokens: true })).toBe('Hello');
    const other = await load({
      'tokenizer.ggml.add_bos_token': bool(false),
      'tokenizer.ggml.add_eos_token': bool(true),
      'tokenizer.ggml.add_space_prefix': bool(false),
    });
    expect(other.encode('Hello')).toEqual([...bare(other, 'Hello'), 2]);
    expect(bare(other, ' Hello')).toEqual(bare(tokenizer, 'Hello'));
    expect(other.decode(bare(other, ' Hello'))).toBe(' Hello');
  });
});

describe('a GGUF’s tokenizer', () => {
  const base = {
    'tokenizer.ggml.model': string('gpt2'),
    'tokenizer.ggml.tokens': strings(['<|end|>', 'a', 'b', 'Ġ', 'ab', '<|eot_id|>']),
    'tokenizer.ggml.merges': strings(['a b']),
    'tokenizer.ggml.token_type': {
      type: 'array',
      itemType: 'int32',
      value: Int32Array.of(3, 1, 1, 1, 1, 3),
    } as GgufValue,
  };
  const read = async (extra: Record<string, GgufValue>, options?: { preTokenizer: string }) =>
    ggufTokenizer(await openGguf(bytesSource(await ggufOf({ ...base, ...extra }))), options);

  test('of a kind that is not known is refused by name', async () => {
    await expect(read({ 'tokenizer.ggml.model': string('rwkv') })).rejects.toThrow(
      /unknown tokenizer\.ggml\.model: rwkv.*Known: gpt2, llama/,
    );
    await expect(read({ 'tokenizer.ggml.pre': string('klingon') })).rejects.toThrow(
      /unknown tokenizer\.ggml\.pre: klingon\. Known: gpt-2,.*smollm/,
    );
    expect(
      (await read({ 'tokenizer.ggml.pre': string('klingon') }, { preTokenizer: 'gpt-2' })).json.pre_tokenizer,
    ).toMatchObject({ type: 'ByteLevel', use_regex: true });
  });

  test('begins with BOS where llama.cpp’s rule for its kind says so', async () => {
    const bos = { 'tokenizer.ggml.bos_token_id': u32(0) };
    expect((await read({ ...bos, 'tokenizer.ggml.pre': string('llama-bpe') })).config).toMatchObject({
      add_bos_token: true,
      bos_token: '<|end|>',
    });
    expect(
      (await read({ ...bos, 'tokenizer.ggml.pre': string('llama-bpe'), 'tokenizer.ggml.add_bos_token': bool(false) }))
        .config.add_bos_token,
    ).toBe(false);
    expect((await read({ ...bos, 'tokenizer.ggml.pre': string('smollm') })).config.add_bos_token).toBe(false);
    expect((await read({ 'tokenizer.ggml.pre': string('llama-bpe') })).config.add_bos_token).toBe(false);
  });

  test('ends a generation at its EOS and at control tokens that end a turn', async () => {
    expect((await read({ 'tokenizer.ggml.eos_token_id': u32(4) })).eosTokenIds).toEqual([4, 0, 5]);
  });

  test('takes words whole where merges are to be ignored', async () => {
    const vocabulary = { 'tokenizer.ggml.merges': strings([]) };
    const tokenizer = async (pre: string) =>
      new Tokenizer(await read({ ...vocabulary, 'tokenizer.ggml.pre': string(pre) }));
    expect((await tokenizer('llama-bpe')).encode('ab')).toEqual([4]);
    expect((await tokenizer('qwen2')).encode('ab')).toEqual([1, 2]);
  });
});

describe('a folder’s tokenizer', () => {
  const toy = toyTokenizer();
  const json = JSON.stringify(toy.parts.json);
  const files = (more: Record<string, string>) =>
    blobFiles(
      Object.entries({ 'tokenizer.json': json, ...more }).map(
        ([name, text]) => [name, new TextEncoder().encode(text)] as const,
      ),
    );

  test('names its special tokens in one of three files', async () => {
    for (const name of ['tokenizer_config.json', 'special_tokens_map.json']) {
      const tokenizer = await loadTokenizer(
        files({ [name]: '{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}' }),
      );
      expect(tokenizer).toMatchObject({ bosTokenId: 1, eosTokenId: 2, eosTokenIds: [2], padTokenId: undefined });
    }
    expect(await loadTokenizer(files({ 'config.json': '{"eos_token_id": [2, 9]}' }))).toMatchObject({
      eosTokenId: 2,
      eosTokenIds: [2, 9],
    });
    expect(
      await loadTokenizer(
        files({ 'tokenizer_config.json': '{"eos_token": "</s>"}', 'generation_config.json': '{"eos_token_id": 7}' }),
      ),
    ).toMatchObject({ eosTokenIds: [2, 7] });
  });

  test('puts BOS and EOS where tokenizer_config.json asks for them', async () => {
    const plain = toy.encode('the');
    const config = (more: object) =>
      files({ 'tokenizer_config.json': JSON.stringify({ bos_token: '<s>', eos_token: '</s>', ...more }) });
    expect((await loadTokenizer(config({}))).encode('the')).toEqual(plain);
    expect((await loadTokenizer(config({ add_bos_token: true }))).encode('the')).toEqual([1, ...plain]);
    expect((await loadTokenizer(config({ add_bos_token: true, add_eos_token: true }))).encode('the')).toEqual([
      1,
      ...plain,
      2,
    ]);
    expect((await loadTokenizer(config({ add_bos_token: true }))).encode('the', { addSpecialTokens: false })).toEqual(
      plain,
    );
  });

  test('finds its chat template in any of its places, the newest first; several by name', async () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const config = (template: unknown) => ({
      'tokenizer_config.json': JSON.stringify({ bos_token: '<s>', chat_template: template }),
    });
    const render = async (more: Record<string, string>, options = {}) =>
      (await loadTokenizer(files(more))).applyChatTemplate(messages, options);
    expect(await render(config('{{ bos_token }}{{ messages[0].content }}'))).toBe('<s>hi');
    expect(await render({ ...config('old'), 'chat_template.jinja': 'new' })).toBe('new');
    expect(await render({ ...config('old'), 'chat_template.json': '{"chat_template": "json"}' })).toBe('json');
    const named = config([
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: '{{ tools | length }} tools' },
    ]);
    expect(await render(named)).toBe('plain');
    expect(await render(named, { tools: [{}, {}] })).toBe('2 tools');
    expect(await render(config('{{ language }}'), { variables: { language: 'de' } })).toBe('de');
    expect((await loadTokenizer(files(config('x')))).hasChatTemplate).toBe(true);
  });

  test('without a template, or with one that refuses, says so', async () => {
    expect(() => toy.applyChatTemplate([{ role: 'user', content: 'hi' }])).toThrow(
      /needs a chat template: the model has none/,
    );
    const strict = new Tokenizer({
      ...toy.parts,
      chatTemplates: new Map([['default', "{{ raise_exception('roles must alternate') }}"]]),
    });
    expect(() =>
      strict.applyChatTemplate([
        { role: 'user', content: 'a' },
        { role: 'user', content: 'b' },
      ]),
    ).toThrow(/template refuses the messages: roles must alternate; roles: user, user/);
    const broken = new Tokenizer({ ...toy.parts, chatTemplates: new Map([['default', '{% for %}']]) });
    expect(() => broken.applyChatTemplate([])).toThrow(/chat template cannot be read/);
  });

  test('that is no tokenizer is refused', async () => {
    await expect(
      loadTokenizer(blobFiles([['tokenizer.json', new TextEncoder().encode('{"model": {"type": "Nonsense"}}')]])),
    ).rejects.toThrow(/tokenizer\.json cannot be read/);
    expect(() => toy.decode([128])).toThrow(/no such token: 128, of 128/);
    expect(() => toy.encode(undefined as never)).toThrow(/needs a text: undefined/);
    expect(toy.decode([])).toBe('');
  });

  test('shows a character once all of its tokens are there', () => {
    const stream = toy.stream();
    const [a, b, c, d] = toy.encode('😀') as [number, number, number, number];
    expect([stream.push(a), stream.push(b), stream.push(c), stream.push(d)]).toEqual(['', '', '', '😀']);
    expect(stream.end()).toBe('');
    const cut = toy.stream();
    expect([cut.push(a), cut.push(b)]).toEqual(['', '']);
    expect(cut.end()).toBe('\u{fffd}');
  });
});

test('the source of a GGUF stays the caller’s', async (context) => {
  const path = need(context, models);
  const source = await fileSource(gguf(path));
  const tokenizer = await loadTokenizer(ggufFiles(source));
  expect(tokenizer.vocabSize).toBe(recorded.vocabulary);
  expect(await source.read(0, 4)).toEqual(new TextEncoder().encode('GGUF'));
  await source.close();
});
