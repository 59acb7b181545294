import fc from 'fast-check';

/** One damage to a file. Places are fractions of a length, so that an edit means something whatever came before it. */
export type Edit =
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'byte'; at: number; value: number }
  | { kind: 'truncate'; at: number }
  | { kind: 'append'; count: number }
  | { kind: 'length'; which: number; value: bigint }
  | { kind: 'number'; at: number; value: bigint }
  | { kind: 'splice'; from: number; to: number; length: number }
  | { kind: 'delete'; at: number; length: number }
  | { kind: 'text'; at: number; text: string };

/** Numbers at which length checks go wrong. */
const numbers = [
  0n,
  1n,
  2n,
  7n,
  8n,
  31n,
  32n,
  255n,
  65_536n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 61n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const value = fc.oneof(fc.constantFrom(...numbers), fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 4096n));
const length = fc.integer({ min: 1, max: 64 });

/** Fragments that mean something in a header of JSON. */
const texts = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ' ',
  '\n ',
  ':',
  '0',
  '-',
  '1e999',
  '.5',
  'null',
  '"dtype":"F32",',
  '"a":{},',
  '[[[[[[[[[[',
  '\\u0000',
  '\\ud800',
  '\xff',
  '{"":',
];

/** One to six edits; most start in the first `header` of the file, given as a fraction. */
export function edits(header: number): fc.Arbitrary<Edit[]> {
  const place = fc.oneof({ weight: 2, arbitrary: fraction.map((f) => f * header) }, { weight: 1, arbitrary: fraction });
  const edit: fc.Arbitrary<Edit> = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('flip' as const), at: place, bit: fc.integer({ min: 0, max: 7 }) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('byte' as const), at: place, value: fc.integer({ min: 0, max: 255 }) }),
    },
    fc.record({ kind: fc.constant('truncate' as const), at: place }),
    fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 100 }) }),
    fc.record({ kind: fc.constant('length' as const), which: fc.nat(1000), value }),
    fc.record({ kind: fc.constant('number' as const), at: place, value }),
    fc.record({ kind: fc.constant('splice' as const), from: place, to: place, length }),
    fc.record({ kind: fc.constant('delete' as const), at: place, length }),
    fc.record({ kind: fc.constant('text' as const), at: place, text: fc.constantFrom(...texts) }),
  );
  return fc.oneof(fc.tuple(edit), fc.array(edit, { minLength: 2, maxLength: 6 }));
}

/**
 * `base` after the edits. `lengths` are the offsets of its 64-bit length fields, which the `length` edits overwrite; a `number` edit
 * replaces the decimal number nearest after its place, else eight bytes.
 */
export function mutate(base: Uint8Array, edits: readonly Edit[], lengths: readonly number[]): Uint8Array {
  let bytes: Uint8Array = base.slice();
  for (const edit of edits) bytes = apply(bytes, edit, lengths);
  return bytes;
}

function apply(bytes: Uint8Array, edit: Edit, lengths: readonly number[]): Uint8Array {
  const place = (f: number) => Math.floor(f * bytes.length);
  switch (edit.kind) {
    case 'flip':
      if (bytes.length > 0) bytes[place(edit.at)]! ^= 1 << edit.bit;
      return bytes;
    case 'byte':
      if (bytes.length > 0) bytes[place(edit.at)] = edit.value;
      return bytes;
    case 'truncate':
      return bytes.slice(0, place(edit.at));
    case 'append':
      return join(bytes, new Uint8Array(edit.count));
    case 'length':
      return setU64(bytes, lengths[edit.which % lengths.length]!, edit.value);
    case 'number': {
      const number = digitsAfter(bytes, place(edit.at));
      if (number === undefined) return setU64(bytes, place(edit.at), edit.value);
      return join(bytes.subarray(0, number.start), ascii(String(edit.value)), bytes.subarray(number.end));
    }
    case 'splice': {
      const piece = bytes.slice(place(edit.from), place(edit.from) + edit.length);
      return join(bytes.subarray(0, place(edit.to)), piece, bytes.subarray(place(edit.to)));
    }
    case 'delete':
      return join(bytes.subarray(0, place(edit.at)), bytes.subarray(place(edit.at) + edit.length));
    case 'text':
      return join(bytes.subarray(0, place(edit.at)), ascii(edit.text), bytes.subarray(place(edit.at)));
  }
}

function setU64(bytes: Uint8Array, at: number, value: bigint): Uint8Array {
  if (at + 8 <= bytes.length) new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(at, value, true);
  return bytes;
}

function digitsAfter(bytes: Uint8Array, at: number): { start: number; end: number } | undefined {
  const isDigit = (i: number) => bytes[i]! >= 0x30 && bytes[i]! <= 0x39;
  let start = at;
  while (start < Math.min(bytes.length, at + 40) && !isDigit(start)) start++;
  let end = start;
  while (end < bytes.length && isDigit(end)) end++;
  return end > start ? { start, end } : undefined;
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function join(...parts: Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
