import { describe, expect, test } from 'vitest';
import {
  bytesSource,
  type GgufDeclaration,
  type GgufMetadata,
  type GgufValue,
  GgufWriter,
  isDequantizable,
  MemorySink,
  openGguf,
  quantizeBlocks,
} from '../src/index.ts';
import { GgufBytes } from './gguf-bytes.ts';
import { collect, countingSource, fixture, formatError, jsonFixture, sha256 } from './support.ts';

interface Record {
  metadata: { [key: string]: [string, unknown] };
  tensors: {
    name: string;
    type: string;
    shape: number[];
    offset: number;
    bytes: number;
    sha256: string;
    f32?: string;
  }[];
}

const small = fixture('small.gguf');
const record = jsonFixture<Record>('small.gguf.json');

/** A value in the way the record has it. */
function shown(entry: GgufValue): [string, unknown] {
  const plain = (type: string, value: unknown) =>
    type === 'bool' ? Boolean(value) : typeof value === 'bigint' ? String(value) : value;
  if (entry.type !== 'array') return [entry.type.toUpperCase(), plain(entry.type, entry.value)];
  const items = Array.from(entry.value as ArrayLike<unknown>, (item) => plain(entry.itemType, item));
  return [`ARRAY:${entry.itemType.toUpperCase()}`, items];
}

describe('reading', () => {
  test('a file of the reference library: every metadata type', async () => {
    const file = await openGguf(bytesSource(small));
    expect([file.version, file.alignment]).toEqual([3, 32]);
    const want = structuredClone(record.metadata);
    want['test.f32']![1] = Math.fround(want['test.f32']![1] as number);
    expect(Object.fromEntries([...file.metadata].map(([key, value]) => [key, shown(value)]))).toEqual(want);
    expect([...file.metadata.keys()]).toEqual(Object.keys(record.metadata));
  });

  test('every tensor: type, shape, place, bytes and f32 values', async () => {
    const file = await openGguf(bytesSource(small));
    expect([...file.tensors.keys()]).toEqual(record.tensors.map(({ name }) => name));
    for (const { name, type, shape, offset, bytes, sha256: raw, f32 } of record.tensors) {
      const elements = shape.reduce((product, n) => product * n, 1);
      expect(file.tensor(name)).toEqual({ name, type, shape, elements, byteOffset: offset, byteLength: bytes });
      expect(sha256(await file.read(name))).toBe(raw);
      expect(isDequantizable(file.tensor(name).type)).toBe(f32 !== undefined);
      if (f32 === undefined) {
        expect((await formatError(file.readF32(name))).message).toMatch(
          new RegExp(
            `^gguf: the tensor type must be one that can be dequantized: "${name}" is ${type} \\(bytes, byte ${offset}\\)`,
          ),
        );
      } else {
        expect(sha256(await file.readF32(name))).toBe(f32);
        const pieces = await collect(file.streamF32(name, 40));
        expect(sha256(Float32Array.from(pieces.flatMap((piece) => [...piece])))).toBe(f32);
      }
    }
  });

  test('no header byte is read twice, and no data', async () => {
    const many = Array.from({ length: 3000 }, (_, i) => `a token of some length ${i}`);
    const metadata: GgufMetadata = new Map<string, GgufValue>([
      ['tokens', { type: 'array', itemType: 'string', value: many }],
      ['scores', { type: 'array', itemType: 'float32', value: new Float32Array(200_000).map((_, i) => i) }],
      ['merges', { type: 'array', itemType: 'string', value: many }],
    ]);
    const sink = new MemorySink();
    const writer = new GgufWriter(sink, [{ name: 'w', type: 'F32', shape: [1 << 20] }], metadata);
    await writer.write('w', new Float32Array(1 << 20));
    await writer.finish();
    const source = countingSource(sink.bytes);
    const file = await openGguf(source);
    expect(file.numbers('scores')).toEqual(Float32Array.from({ length: 200_000 }, (_, i) => i));
    expect(file.strings('merges')).toEqual(many);
    let end = 0;
    for (const [offset, length] of source.reads) {
      expect(offset).toBe(end);
      end += length;
    }
    expect(source.reads.length).toBeLessThan(8);
    expect(end).toBeLessThan(file.tensor('w').byteOffset + (1 << 20));
  });

  test('version 2, another alignment, arrays of arrays, no tensors', async () => {
    const bytes = GgufBytes.header(0, 2, 2).string('general.alignment').u32(4).u32(64);
    bytes.string('nested').u32(9).u32(9).u64(2).u32(0).u64(1).raw(7).u32(8).u64(1).string('x');
    const file = await openGguf(bytesSource(bytes.bytes));
    expect([file.version, file.alignment, file.tensors.size]).toEqual([2, 64, 0]);
    expect(file.metadata.get('nested')).toEqual({
      type: 'array',
      itemType: 'array',
      value: [
        { type: 'array', itemType: 'uint8', value: Uint8Array.of(7) },
        { type: 'array', itemType: 'string', value: ['x'] },
      ],
    });
  });

  test('metadata by kind', async () => {
    const file = await openGguf(bytesSource(small, 'small.gguf'));
    expect(file.string('general.architecture')).toBe('llama');
    expect(file.string('none', 'other')).toBe('other');
    expect(file.number('test.i16')).toBe(-32768);
    expect(file.number('none', 0)).toBe(0);
    expect(file.numbers('test.floats')).toEqual(Float32Array.of(0.5, -1.5, 3));
    expect(file.strings('test.strings')).toHaveLength(4);
    const message = async (run: () => unknown) => (await formatError(run)).message;
    expect(await message(() => file.string('general.architectur'))).toMatch(
      /^gguf: the metadata must have the key: no "general\.architectur" \(a string\) \(small\.gguf\)\. Nearest: "general\.architecture", /,
    );
    expect(await message(() => file.number('test.string', 1))).toContain('"test.string" is a string, not a number');
    expect(await message(() => file.number('test.u64'))).toContain('"test.u64" is a uint64, not a number');
    expect(await message(() => file.numbers('test.u64s'))).toContain('an array of uint64, not an array of numbers');
    expect(await message(() => file.numbers('test.bools'))).toContain('an array of bool, not an array of numbers');
    expect(await message(() => file.strings('test.floats'))).toContain('an array of float32, not an array of strings');
    expect(await message(() => file.string('test.u8'))).toContain('is a uint8, not a string');
  });
});

const header = GgufBytes.header;
const value = (type: number) => header(0, 1).string('key').u32(type);

const malformed: [string, GgufBytes, RegExp, number][] = [
  [
    'an empty file',
    new GgufBytes(),
    /header must lie inside the file: magic and version of 8 bytes, 0 bytes are left/,
    0,
  ],
  ['something else', new GgufBytes().text('PK\x03\x04....'), /must start with "GGUF": found bytes 50 4b 03 04/, 0],
  ['version 1', header(0, 0, 1), /must be 2 or 3.*the version is 1/, 4],
  ['version 4', header(0, 0, 4), /the version is 4/, 4],
  ['big-endian', header(0, 0, 0x03000000), /the file is big-endian.*gguf-convert-endian/, 4],
  ['no counts', new GgufBytes().text('GGUF').u32(3), /tensors of 8 bytes, 0 bytes are left/, 8],
  [
    '2^64 - 1 tensors',
    header(2n ** 64n - 1n, 0),
    /18446744073709552000 tensors of at least 24 bytes each, 8 bytes are left/,
    8,
  ],
  ['2^64 - 1 values', header(0, 2n ** 64n - 1n), /metadata values of at least 13 bytes each/, 16],
  ['a key past the end', header(0, 1).u64(1000).data(8), /a metadata key of 1000 bytes, 8 bytes are left/, 24],
  [
    'a key of 2^63 bytes',
    header(0, 1)
      .u64(2n ** 63n)
      .data(8),
    /lengths must be in bounds: a metadata key has 9223372036854776000 bytes/,
    24,
  ],
  [
    'a key twice',
    header(0, 2).string('k').u32(0).raw(1).string('k').u32(0).raw(1),
    /keys must be unique: "k" appears twice/,
    38,
  ],
  [
    'a key that is not UTF-8',
    header(0, 1).u64(1).raw(255).u32(0).raw(1),
    /strings must be UTF-8: a metadata key is not/,
    24,
  ],
  ['a value of type 13', value(13).data(8), /types must be 0 to 12: the value of "key" has type 13/, 35],
  ['a bool of 2', value(7).raw(2), /a bool must be 0 or 1: the value of "key" is 2/, 39],
  ['a bool of 3 in an array', value(9).u32(7).u64(3).raw(0, 1, 3), /the value of "key" has 3/, 53],
  [
    'a string past the end',
    value(8)
      .u64(2n ** 64n - 1n)
      .data(8),
    /the value of "key" of 18446744073709552000 bytes/,
    39,
  ],
  ['a string that is not UTF-8', value(8).u64(2).raw(0xc3, 0x28), /strings must be UTF-8/, 39],
  ['an array of type 99', value(9).u32(99).u64(1).data(8), /has type 99/, 39],
  [
    'an array past the end',
    value(9)
      .u32(10)
      .u64(2n ** 61n)
      .data(8),
    /items in the value of "key" of at least 8 bytes each/,
    43,
  ],
  [
    'a string array past the end',
    value(9)
      .u32(8)
      .u64(2 ** 40)
      .data(8),
    /1099511627776 items in the value of "key"/,
    43,
  ],
  [
    'arrays in arrays without end',
    Array.from({ length: 9 }).reduce<GgufBytes>((bytes) => bytes.u32(9).u64(1), value(9)),
    /nested at most 4 deep/,
    75,
  ],
  [
    'an alignment of 0',
    header(0, 1).string('general.alignment').u32(4).u32(0),
    /general.alignment must be a uint32 and a power of two: it is a uint32, 0/,
    0,
  ],
  ['an alignment of 24', header(0, 1).string('general.alignment').u32(4).u32(24), /power of two/, 0],
  ['an alignment of text', header(0, 1).string('general.alignment').u32(8).string('32'), /it is a string, 32/, 0],
  [
    'a tensor cut off',
    header(1, 0).string('a long tensor name').u32(1).u64(1),
    /tensor "a long tensor name" of 20 bytes/,
    54,
  ],
  [
    'five dimensions',
    header(1, 0).tensor('t', [1, 1, 1, 1, 1], 0, 0).data(4),
    /at most 4 dimensions: tensor "t" has 5/,
    24,
  ],
  [
    '2^32 - 1 dimensions',
    header(1, 0)
      .string('t')
      .u32(2 ** 32 - 1)
      .data(64),
    /has 4294967295/,
    24,
  ],
  [
    'an unknown type',
    header(1, 0).tensor('t', [1], 99, 0).data(4),
    /types must be known: tensor "t" has type number 99/,
    24,
  ],
  ['a removed type', header(1, 0).tensor('t', [32], 4, 0).data(4), /type number 4/, 24],
  [
    'a product beyond 2^53',
    header(1, 0)
      .tensor('t', [2 ** 40, 2 ** 40], 0, 0)
      .data(4),
    /product below 2\^53: tensor "t", F32, is \[1099511627776, 1099511627776\]/,
    24,
  ],
  [
    '0 times a huge dimension',
    header(1, 0)
      .tensor('t', [2n ** 64n - 1n, 0], 0, 0)
      .data(4),
    /product below 2\^53/,
    24,
  ],
  [
    'bytes beyond 2^53',
    header(1, 0)
      .tensor('t', [2 ** 52], 0, 0)
      .data(4),
    /product below 2\^53/,
    24,
  ],
  [
    'a row of half a block',
    header(1, 0).tensor('t', [48, 2], 2, 0).data(64),
    /rows must be whole blocks of 32: tensor "t", Q4_0, is \[2, 48\]/,
    24,
  ],
  [
    'a name twice',
    header(2, 0).tensor('t', [1], 0, 0).tensor('t', [1], 0, 32).data(64),
    /names must be unique: "t" appears twice/,
    57,
  ],
  [
    'data past the end',
    header(1, 0).tensor('t', [9], 0, 0).data(32),
    /data must lie inside the file: "t" ends at byte 100, the file at 96.*cut short/,
    24,
  ],
  [
    'an offset past the end',
    header(1, 0)
      .tensor('t', [1], 0, 2n ** 60n)
      .data(32),
    /one after the other: "t" has offset 1152921504606847000, 0 is next/,
    24,
  ],
  [
    'overlapping tensors',
    header(2, 0).tensor('a', [16], 0, 0).tensor('b', [8], 0, 32).data(96),
    /one after the other: "b" has offset 32, 64 is next/,
    57,
  ],
  ['a hole', header(2, 0).tensor('a', [8], 0, 0).tensor('b', [8], 0, 64).data(96), /"b" has offset 64, 32 is next/, 57],
];

describe('malformed files', () => {
  test.each(malformed)('%s', async (_, bytes, message, offset) => {
    const source = countingSource(bytes.bytes, 'bad.gguf');
    const error = await formatError(openGguf(source));
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^gguf: .* \(bad\.gguf, byte \d+\)\./);
    expect([error.file, error.offset]).toEqual(['bad.gguf', offset]);
    expect(source.closed).toBe(1);
  });

  test('counts and headers above the limits, in a file that could hold them', async () => {
    const reads: number[] = [];
    const virtual = (start: Uint8Array) => ({
      name: 'huge.gguf',
      size: 2 ** 40,
      async read(offset: number, length: number) {
        reads.push(length);
        const bytes = new Uint8Array(length);
        if (offset < start.length) bytes.set(start.subarray(offset, offset + length));
        return bytes;
      },
    });
    const many = await formatError(openGguf(virtual(header(2 ** 20 + 1, 0).bytes)));
    expect(many.message).toContain('1048577 tensors, at most 1048576 are allowed');
    const long = await formatError(openGguf(virtual(value(8).u64(2 ** 30).bytes)));
    expect(long.message).toMatch(
      /header must be within the limit: the value of "key" of 1073741824 bytes.*Raise maxHeaderBytes/,
    );
    const small = await formatError(openGguf(virtual(value(8).u64(2 ** 20).bytes), { maxHeaderBytes: 1 << 20 }));
    expect(small.message).toContain('within the limit');
    expect(Math.max(...reads)).toBeLessThanOrEqual(1 << 17);
  });
});

describe('writing', () => {
  const declared: GgufDeclaration[] = [
    { name: 'f32', type: 'F32', shape: [3, 5] },
    { name: 'empty', type: 'F32', shape: [0, 4] },
    { name: 'f16', type: 'F16', shape: [7] },
    { name: 'bf16', type: 'BF16', shape: [2, 2, 3] },
    { name: 'q8_0', type: 'Q8_0', shape: [2, 64] },
  ];
  const valuesOf = ({ shape }: { shape: readonly number[] }) =>
    Float32Array.from({ length: shape.reduce((product, n) => product * n, 1) }, (_, i) => Math.cos(i) * 2);

  test('f32 values in pieces are read back as the declared type', async () => {
    const sink = new MemorySink();
    const metadata = new Map<string, GgufValue>([['general.architecture', { type: 'string', value: 'llama' }]]);
    const writer = new GgufWriter(sink, declared, metadata);
    for (const tensor of writer.tensors) {
      const values = valuesOf(tensor);
      const step = tensor.type === 'Q8_0' ? 32 : 4;
      for (let at = 0; at < values.length; at += step) await writer.write(tensor.name, values.subarray(at, at + step));
    }
    await writer.finish();
    expect(sink.bytes.length).toBe(writer.byteLength);
    const file = await openGguf(bytesSource(sink.bytes.slice()));
    expect([...file.tensors.values()]).toEqual(writer.tensors);
    expect(file.metadata).toEqual(metadata);
    for (const { name, type, shape } of declared) {
      const want = quantizeBlocks(type as 'F32', valuesOf({ shape }));
      expect(Buffer.from(await file.read(name)).equals(want)).toBe(true);
    }
  });

  test('what was read is written back to the same bytes', async () => {
    const source = await openGguf(bytesSource(small));
    const sink = new MemorySink();
    const writer = new GgufWriter(sink, source.tensors.values(), source.metadata);
    for (const { name } of writer.tensors)
      for await (const chunk of source.stream(name, 50)) await writer.write(name, chunk);
    await writer.finish();
    expect(Buffer.from(sink.bytes).equals(small)).toBe(true);
  });

  test('another alignment', async () => {
    const sink = new MemorySink();
    const metadata = new Map<string, GgufValue>([['general.alignment', { type: 'uint32', value: 128 }]]);
    const writer = new GgufWriter(sink, declared, metadata);
    for (const tensor of writer.tensors) await writer.write(tensor.name, valuesOf(tensor));
    await writer.finish();
    const file = await openGguf(bytesSource(sink.bytes));
    expect(file.alignment).toBe(128);
    expect([...file.tensors.values()].every(({ byteOffset }) => byteOffset % 128 === 0)).toBe(true);
    expect(await file.readF32('f32')).toEqual(valuesOf(declared[0]!));
  });

  const write = (tensors: unknown[], metadata: [string, unknown][] = []) => {
    return new GgufWriter(
      new MemorySink(),
      tensors as GgufDeclaration[],
      new Map(metadata) as GgufMetadata,
      'out.gguf',
    );
  };
  const t = { name: 't', type: 'F32', shape: [2] };
  test.each<[string, () => unknown, RegExp]>([
    ['a tensor out of order', () => write([t]).write('u', new Float32Array(1)), /got "u", next is "t" \(out\.gguf\)/],
    ['too much data', () => write([t]).write('t', new Float32Array(3)), /"t" has 8 bytes, 12 were written/],
    ['too little data', () => write([t]).finish(), /"t" has 0 of 8 bytes, 0 more follow/],
    [
      'part of a block',
      () => write([{ ...t, type: 'Q8_0', shape: [64] }]).write('t', new Float32Array(16)),
      /whole blocks of 32/,
    ],
    [
      'values for a type that is not written',
      () => write([{ ...t, type: 'Q4_0', shape: [32] }]).write('t', new Float32Array(32)),
      /got "Q4_0".*Writable are F32/,
    ],
    ['a name twice', () => write([t, t]), /"t" is declared twice/],
    ['a name of 64 bytes', () => write([{ ...t, name: 'é'.repeat(32) }]), /at most 63 bytes: .* has 64/],
    ['an unknown type', () => write([{ ...t, type: 'Q4' }]), /must be known: got "Q4"/],
    ['five dimensions', () => write([{ ...t, shape: [1, 1, 1, 1, 1] }]), /at most 4 dimensions/],
    ['a fraction', () => write([{ ...t, shape: [1.5] }]), /whole numbers/],
    ['half a block a row', () => write([{ ...t, type: 'Q8_0', shape: [2, 48] }]), /whole blocks of 32/],
    [
      'an alignment of 4',
      () => write([], [['general.alignment', { type: 'uint32', value: 4 }]]),
      /at least 8: it is 4/,
    ],
    ['an empty key', () => write([], [['', { type: 'uint8', value: 4 }]]), /keys must have 1 to 65535 bytes/],
    [
      '256 as uint8',
      () => write([], [['k', { type: 'uint8', value: 256 }]]),
      /must fit their types: "k" is a uint8 with value 256/,
    ],
    ['a fraction as int32', () => write([], [['k', { type: 'int32', value: 0.5 }]]), /must fit their types/],
    ['a number as uint64', () => write([], [['k', { type: 'uint64', value: 1 }]]), /must fit their types/],
    ['2^64 as uint64', () => write([], [['k', { type: 'uint64', value: 2n ** 64n }]]), /must fit their types/],
    ['a number as string', () => write([], [['k', { type: 'string', value: 1 }]]), /must fit their types/],
    ['a lone surrogate', () => write([], [['k', { type: 'string', value: '\ud800' }]]), /well-formed/],
    [
      'an unknown type of value',
      () => write([], [['k', { type: 'uint128', value: 1 }]]),
      /types must be known: got "uint128"/,
    ],
    [
      'a plain array of numbers',
      () => write([], [['k', { type: 'array', itemType: 'int32', value: [1] }]]),
      /"k" is an array of int32/,
    ],
    [
      'an array of other items',
      () => write([], [['k', { type: 'array', itemType: 'string', value: [1] }]]),
      /"k" is a string with value 1/,
    ],
    [
      'bools of 2',
      () => write([], [['k', { type: 'array', itemType: 'bool', value: Uint8Array.of(2) }]]),
      /"k" is an array of bool/,
    ],
  ])('mistakes are named: %s', async (_, run, message) => {
    expect((await formatError(async () => run())).message).toMatch(message);
  });

  test('a second write after the last tensor', async () => {
    const writer = write([t]);
    await writer.write('t', new Float32Array(2));
    expect((await formatError(writer.write('t', new Float32Array(2)))).message).toContain('none: all are written');
  });
});
