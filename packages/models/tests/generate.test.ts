import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StopText } from '../src/generate/stop-text.ts';
import {
  type CausalLm,
  type GeneratedToken,
  type GenerateOptions,
  generate,
  generateText,
  loadModel,
  type Prompt,
  Sampler,
} from '../src/index.ts';
import { familyFiles, useDevice } from './helpers.ts';
import { toyTokenizer } from './toy-tokenizer.ts';

const at = useDevice(1);
const tokenizer = toyTokenizer();
let model: CausalLm;
beforeEach(async () => {
  model = await loadModel(at.device, familyFiles('llama'), { computeDtype: 'f32' });
});
afterEach(() => model.dispose());

async function all(prompts: Prompt | readonly Prompt[], options: GenerateOptions = {}): Promise<GeneratedToken[]> {
  const out: GeneratedToken[] = [];
  for await (const token of generate(model, prompts, { eosTokenIds: [], ...options })) out.push(token);
  return out;
}
const idsOf = (tokens: readonly GeneratedToken[], prompt = 0) =>
  tokens.filter((t) => t.prompt === prompt).map((t) => t.id);

describe('prompts', () => {
  const prompts = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 90, 91, 92], [40]];

  test.each([
    [true, 'llama'],
    [false, 'llama'],
    [true, 'mistral'],
    [false, 'mistral'],
  ] as const)('of different lengths at once give what each gives alone (cache %s, %s)', async (useCache, family) => {
    using own = await loadModel(at.device, familyFiles(family), { computeDtype: 'f32' });
    const run = async (p: Prompt | readonly Prompt[]) => {
      const out: GeneratedToken[] = [];
      for await (const token of generate(own, p, { eosTokenIds: [], maxNewTokens: 20, useCache })) out.push(token);
      return out;
    };
    const together = await run(prompts);
    for (const [i, prompt] of prompts.entries()) expect(idsOf(together, i)).toEqual(idsOf(await run(prompt)));
  });

  test('with and without the cache are the same, sampled too', async () => {
    for (const temperature of [0, 1]) {
      const run = (useCache: boolean) => all(prompts, { maxNewTokens: 20, temperature, seed: 3, useCache });
      expect(await run(true)).toEqual(await run(false));
    }
  });

  test('that end early do not disturb the others', async () => {
    const free = await all(prompts, { maxNewTokens: 16 });
    const end = idsOf(free, 0)[2]!;
    const cut = await all(prompts, { maxNewTokens: 16, eosTokenIds: [end] });
    for (const i of prompts.keys()) {
      const ids = idsOf(free, i);
      const stop = ids.indexOf(end);
      expect(idsOf(cut, i)).toEqual(stop < 0 ? ids : ids.slice(0, stop + 1));
      expect(cut.filter((t) => t.prompt === i).at(-1)!.finish).toBe(stop < 0 ? 'length' : 'eos');
    }
  });

  test('as texts are encoded by the tokenizer', async () => {
    const text = 'the end';
    expect(idsOf(await all(text, { tokenizer, maxNewTokens: 5 }))).toEqual(
      idsOf(await all(tokenizer.encode(text), { maxNewTokens: 5 })),
    );
    expect(idsOf(await all([''], { tokenizer, maxNewTokens: 2 }))).toEqual(idsOf(await all([1], { maxNewTokens: 2 })));
  });

  test('that cannot be continued are refused', async () => {
    await expect(all('text')).rejects.toThrow(/a text needs a tokenizer: prompt 0/);
    await expect(all([[5], []])).rejects.toThrow(/the prompt is empty: prompt 1/);
    await expect(all([[5], [128]])).rejects.toThrow(/no such token: prompt 1: 128, of 128/);
    await expect(all(new Array<number>(64).fill(5))).rejects.toThrow(
      /longer than the context: prompt 0: 64 tokens, the model has 64 positions/,
    );
    await expect(all([5], { stop: ['x'] })).rejects.toThrow(/stop strings need a tokenizer: x/);
    await expect(all([5], { maxNewTokens: -1 })).rejects.toThrow(/maxNewTokens must be a whole number: -1/);
  });
});

describe('a generation', () => {
  test('ends at the limit, or where the context ends', async () => {
    expect(await all([5, 6], { maxNewTokens: 3 })).toMatchObject([
      { id: expect.any(Number) },
      {},
      { finish: 'length' },
    ]);
    const full = await all(new Array<number>(60).fill(5), { maxNewTokens: 100 });
    expect(full).toHaveLength(4);
    expect(full.at(-1)!.finish).toBe('length');
    expect(await all([5], { maxNewTokens: 0 })).toEqual([]);
    expect(await all([])).toEqual([]);
  });

  test.each([true, false])(
    'is not cut short where the context of a longer neighbour ends (cache %s)',
    async (useCache) => {
      const long = new Array<number>(61).fill(5);
      const [options, short] = [{ maxNewTokens: 40, useCache }, [7, 8]];
      const together = await all([short, long], options);
      expect(idsOf(together, 0)).toEqual(idsOf(await all(short, options)));
      expect(idsOf(together, 1)).toEqual(idsOf(await all(long, options)));
      expect(together.filter((t) => t.finish).map((t) => t.prompt)).toEqual([1, 0]);
    },
  );

  test('ends at the model’s own ends by default, and shows nothing of them', async () => {
    const ids = idsOf(await all([7, 7, 7], { maxNewTokens: 30 }));
    const end = ids[4]!;
    const { config } = model;
    Object.defineProperty(model, 'config', { value: { ...config, eosTokenIds: [end] } });
    const own: GeneratedToken[] = [];
    for await (const token of generate(model, [7, 7, 7], { tokenizer, maxNewTokens: 30 })) own.push(token);
    expect(own.at(-1)).toMatchObject({ id: end, text: '', finish: 'eos' });
    expect(own.map((t) => t.id)).toEqual(ids.slice(0, ids.indexOf(end) + 1));
  });

  test('frees everything when the loop is left, when it is aborted, and when a callback throws', async () => {
    for await (const { id } of generate(model, [5, 6], { eosTokenIds: [] })) {
      expect(id).toBeGreaterThanOrEqual(0);
      break;
    }
    const stop = new AbortController();
    const reason = new Error('enough');
    await expect(all([5], { signal: stop.signal, onToken: () => stop.abort(reason) })).rejects.toBe(reason);
    const fail = () => {
      throw new Error('mine');
    };
    await expect(all([5], { onToken: fail })).rejects.toThrow('mine');
  });

  test('needs nothing from step to step once it runs: the cache is all it holds', async () => {
    const live: number[] = [];
    model.prepare(model.config.maxPositions);
    for await (const _ of generate(model, [5, 6, 7], { eosTokenIds: [], maxNewTokens: 12 }))
      live.push(at.device.memory().live);
    expect(new Set(live.slice(1)).size).toBe(1);
  });
});

describe('text', () => {
  test('comes token by token, is what the ids decode to, and is what generateText gives', async () => {
    const tokens = await all([10, 20, 30], { tokenizer, maxNewTokens: 40, temperature: 1, seed: 5 });
    const text = tokens.map((t) => t.text).join('');
    expect(text).toBe(tokenizer.decode(idsOf(tokens), { skipSpecialTokens: true }));
    expect(
      await generateText(model, tokenizer, [10, 20, 30], {
        maxNewTokens: 40,
        temperature: 1,
        seed: 5,
        eosTokenIds: [],
      }),
    ).toBe(text);
    const both = await generateText(model, tokenizer, [[10, 20, 30], 'the'], {
      maxNewTokens: 40,
      temperature: 1,
      seed: 5,
      eosTokenIds: [],
    });
    expect(both).toEqual([text, expect.any(String)]);
  });

  test('ends before a stop string, wherever the tokens cut it; no part of it is shown', async () => {
    const options = { tokenizer, maxNewTokens: 40, temperature: 1, seed: 8 };
    const free = await all([10, 20, 30], options);
    const text = free.map((t) => t.text).join('');
    for (let from = 0; from + 5 <= text.length; from += 3) {
      const stop = text.slice(from, from + 5);
      const tokens = await all([10, 20, 30], { ...options, stop: ['never that', stop] });
      expect(tokens.map((t) => t.text).join('')).toBe(text.slice(0, text.indexOf(stop)));
      expect(tokens.at(-1)!.finish).toBe('stop');
      expect(idsOf(tokens)).toEqual(idsOf(free).slice(0, tokens.length));
    }
  });

  test('that only begins like a stop string is shown at the end', async () => {
    const free = await all([10, 20, 30], { tokenizer, maxNewTokens: 20 });
    const text = free.map((t) => t.text).join('');
    const tokens = await all([10, 20, 30], { tokenizer, maxNewTokens: 20, stop: [`${text.slice(-4)}~~~~`] });
    expect(tokens.map((t) => t.text).join('')).toBe(text);
    expect(tokens.at(-1)!.finish).toBe('length');
  });

  test('ends at a stop id, which is not shown', async () => {
    const ids = idsOf(await all([10, 20, 30], { maxNewTokens: 20 }));
    const tokens = await all([10, 20, 30], { tokenizer, maxNewTokens: 20, stop: [ids[3]!] });
    expect(tokens.at(-1)).toMatchObject({ id: ids[3], text: '', finish: 'stop' });
  });

  test('StopText never shows what a stop string takes, however the text is cut', () => {
    const pieces = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 4 }), { maxLength: 12 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(pieces, stops, (parts, stopStrings) => {
        const whole = parts.join('');
        const watch = new StopText(stopStrings);
        let shown = '';
        let seen = '';
        let stopped = false;
        for (const part of parts) {
          seen += part;
          const step = watch.push(part);
          shown += step.text;
          if (step.stopped) {
            stopped = true;
            break;
          }
        }
        if (!stopped) shown += watch.end();
        const ends = stopStrings.map((s) => whole.indexOf(s)).filter((i) => i >= 0);
        expect(stopped).toBe(ends.length > 0);
        // Of what had come when the first stop string was complete, everything before the earliest one is shown.
        const first = Math.min(...stopStrings.map((s) => seen.indexOf(s)).filter((i) => i >= 0), seen.length);
        expect(shown).toBe(seen.slice(0, first));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('sampling', () => {
  const logits = Float32Array.of(2, 1, 0, -1, 3, -Infinity, 1, 0.5);

  /** How often each token comes in `n` draws. */
  function counts(options: ConstructorParameters<typeof Sampler>[0], n = 40_000): number[] {
    const sampler = new Sampler({ temperature: 1, seed: 11, ...options });
    const out = new Array<number>(logits.length).fill(0);
    for (let i = 0; i < n; i++) out[sampler.pick(logits, 0, i)]!++;
    return out;
  }

  /** Pearson's statistic of counts against probabilities that are 0 outside `allowed`. */
  function chiSquare(
    found: number[],
    temperature: number,
    allowed: (id: number) => boolean,
  ): { statistic: number; freedom: number } {
    const weights = Array.from(logits, (l, i) => (allowed(i) ? Math.exp(l / temperature) : 0));
    const total = weights.reduce((a, b) => a + b, 0);
    const n = found.reduce((a, b) => a + b, 0);
    let statistic = 0;
    let freedom = -1;
    for (const [i, w] of weights.entries()) {
      if (w === 0) {
        expect(found[i], `token ${i} is not allowed`).toBe(0);
        continue;
      }
      statistic += (found[i]! - (n * w) / total) ** 2 / ((n * w) / total);
      freedom++;
    }
    return { statistic, freedom };
  }

  // 99.99 % quantiles of the chi-square distribution; the seed is fixed, so a right sampler passes always.
  const quantile = [0, 15.14, 18.42, 21.11, 23.51, 25.74, 27.86];
  test.each([
    ['everything', {}, 1, () => true],
    ['a low temperature', { temperature: 0.5 }, 0.5, () => true],
    ['a high temperature', { temperature: 3 }, 3, () => true],
    ['top 3 (of two equals the first)', { topK: 3 }, 1, (id: number) => [4, 0, 1].includes(id)],
    ['top 70 %', { topP: 0.7 }, 1, (id: number) => [4, 0].includes(id)],
    ['top 80 %', { topP: 0.8 }, 1, (id: number) => [4, 0, 1].includes(id)],
    ['top 90 %', { topP: 0.9 }, 1, (id: number) => [4, 0, 1, 6].includes(id)],
    ['top 85 % of the top 3', { topK: 3, topP: 0.85 }, 1, (id: number) => [4, 0].includes(id)],
  ] as const)('%s: draws follow the distribution', (_, options, temperature, allowed) => {
    const { statistic, freedom } = chiSquare(counts(options), temperature, (id) => id !== 5 && allowed(id));
    if (freedom > 0) expect(statistic).toBeLessThan(quantile[freedom]!);
  });

  test('one seed gives one text; seeds, prompts and steps differ', () => {
    const draw = (seed: number, row: number) =>
      Array.from({ length: 60 }, (_, i) => new Sampler({ temperature: 2, seed }).pick(logits, row, i));
    expect(draw(1, 0)).toEqual(draw(1, 0));
    const runs = [draw(1, 0), draw(2, 0), draw(1, 1), draw(1 + 2 ** 32, 0)].map(String);
    expect(new Set(runs).size).toBe(4);
  });

  test('greedy takes the first of the largest; so do top 1 and a tiny topP', () => {
    const tied = Float32Array.of(0, 3, 1, 3);
    for (const options of [{}, { temperature: 1, topK: 1 }, { temperature: 1, topP: 1e-9 }])
      expect(new Sampler(options).pick(tied, 0, 0)).toBe(1);
  });

  test('the order of the vocabulary does not matter to which tokens topK and topP keep', () => {
    const values = fc.array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(
        values,
        fc.integer({ min: 0, max: 45 }),
        fc.double({ min: 0.05, max: 1, noNaN: true }),
        (list, topK, topP) => {
          const l = Float32Array.from(list);
          const order = [...l.keys()].sort((a, b) => l[b]! - l[a]! || a - b).slice(0, topK || l.length);
          const weights = order.map((i) => Math.exp(l[i]! - l[order[0]!]!));
          const total = weights.reduce((a, b) => a + b, 0);
          let before = 0;
          const kept = new Set(
            order.filter((_, k) => {
              const keep = k === 0 || topP === 1 || before < topP * total * (1 + 1e-12);
              before += weights[k]!;
              return keep;
            }),
          );
          const sampler = new Sampler({ temperature: 1, topK, topP, seed: 1 });
          for (let step = 0; step < 30; step++) expect(kept.has(sampler.pick(l, 0, step))).toBe(true);
        },
      ),
    );
  });

  test('bad options and bad logits are refused', () => {
    expect(() => new Sampler({ temperature: -1 })).toThrow(/temperature must be 0 or more: -1/);
    expect(() => new Sampler({ topP: 0 })).toThrow(/topP must be above 0 and at most 1: 0/);
    expect(() => new Sampler({ topK: 1.5 })).toThrow(/topK must be a whole number/);
    expect(() => new Sampler({ seed: -3 })).toThrow(/seed must be a whole number/);
    expect(() => new Sampler().pick(Float32Array.of(1, Number.NaN), 0, 0)).toThrow(/logits hold NaN: token 1/);
    expect(() => new Sampler().pick(Float32Array.of(-Infinity), 0, 0)).toThrow(/no finite number/);
  });
});
