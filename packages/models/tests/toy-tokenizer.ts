import { Tokenizer } from '../src/index.ts';

/** GPT-2's letters for bytes. */
export const letters: readonly string[] = (() => {
  const shown = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(shown(b) ? b : next++));
})();

/**
 * A byte-level tokenizer of 128 tokens for the recorded families: three special ones, then printable ASCII, then the six bytes of two
 * characters that only whole sequences of tokens can spell, then some two-letter tokens.
 */
export function toyTokenizer(): Tokenizer {
  const tokens = ['<unk>', '<s>', '</s>', ...Array.from({ length: 95 }, (_, i) => letters[32 + i]!)];
  for (const byte of new TextEncoder().encode('é😀')) tokens.push(letters[byte]!);
  const merges: [string, string][] = [];
  for (const pair of [
    'th',
    'he',
    'in',
    'er',
    'an',
    're',
    'on',
    'at',
    'en',
    'nd',
    'ti',
    'es',
    'or',
    'te',
    'of',
    'ed',
    'is',
    'it',
    'al',
    'ar',
    'st',
    'to',
    'nt',
    'ng',
  ]) {
    if (tokens.length >= 128) break;
    merges.push([pair[0]!, pair[1]!]);
    tokens.push(pair);
  }
  return new Tokenizer({
    json: {
      added_tokens: [0, 1, 2].map((id) => ({ id, content: tokens[id], special: true, normalized: false })),
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((t, i) => [t, i])), merges, ignore_merges: false },
    },
    config: { bos_token: '<s>', eos_token: { content: '</s>' }, unk_token: '<unk>' },
    eosTokenIds: [2],
  });
}
