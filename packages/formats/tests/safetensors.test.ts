import { describe, expect, test } from 'vitest';
import {
  bytesSource,
  MemorySink,
  openSafetensors,
  type SafetensorsData,
  type SafetensorsDtype,
  SafetensorsWriter,
  safetensorsDtypes,
  serializeSafetensors,
} from '../src/index.ts';
import { countingSource, fixture, formatError, jsonFixture, safetensorsBytes, sha256 } from './support.ts';

interface Record {
  metadata: { [key: string]: string };
  tensors: { name: string; dtype: SafetensorsDtype; shape: number[]; offset: number; bytes: number; sha256: string }[];
}

const small = fixture('small.safetensors');
const record = jsonFixture<Record>('small.safetensors.json');

describe('reading', () => {
  test('a file of the reference library: every dtype, names, scalar, empty tensor, metadata', async () => {
    const source = countingSource(small);
    const file = await openSafetensors(source);
    expect({ ...file.metadata }).toEqual(record.metadata);
    expect([...file.tensors.keys()].sort()).toEqual(record.tensors.map(({ name }) => name).sort());
    expect(new Set([...file.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(safetensorsDtypes));
    for (const { name, dtype, shape, offset, bytes, sha256: want } of record.tensors) {
      expect(file.tensor(name)).toEqual({ name, dtype, shape, byteOffset: offset, byteLength: bytes });
      expect(sha256(await file.read(name))).toBe(want);
    }
    expect(source.reads.slice(0, 2)).toEqual([
      [0, 8],
      [8, Math.min(...record.tensors.map(({ offset }) => offset)) - 8],
    ]);
    await file.close();
    expect(source.closed).toBe(1);
  });

  test('data is aligned for a typed array, wherever the bytes lie', async () => {
    const shifted = new Uint8Array(small.length + 1).subarray(1);
    shifted.set(small);
    const file = await openSafetensors(bytesSource(shifted));
    const bytes = await file.read('model.f64.weight');
    expect(new Float64Array(bytes.buffer, bytes.byteOffset, 15)).toHaveLength(15);
    for await (const chunk of file.stream('model.f64.weight', 8)) expect(chunk.byteOffset % 8).toBe(0);
  });

  test('parts of a tensor, and what lies outside of it', async () => {
    const file = await openSafetensors(bytesSource(small, 'small'));
    const all = await file.read('model.i64.weight');
    expect(await file.read('model.i64.weight', 8, 24)).toEqual(all.slice(8, 24));
    expect(await file.read('model.i64.weight', 48)).toEqual(all.slice(48));
    for (const [begin, end] of [
      [-1, 3],
      [0, 57],
      [20, 10],
      [57, undefined],
    ] as const) {
      expect((await formatError(file.read('model.i64.weight', begin, end))).message).toContain(
        '"model.i64.weight" of small',
      );
    }
    await expect(file.stream('scalar', 0).next()).rejects.toThrow('chunk size must be a positive whole number');
    const unknown = await formatError(file.read('model.i6.weight'));
    expect(unknown.message).toBe(
      'safetensors: the tensor must be in the file: no "model.i6.weight" among 19 tensors (small). Nearest: "model.i64.weight", "model.i16.weight", "model.i8.weight".',
    );
  });

  test('a header without tensors, padded or not', async () => {
    for (const json of ['{}', '{ }   ', '{"__metadata__":{}}']) {
      expect((await openSafetensors(bytesSource(safetensorsBytes(json, 0)))).tensors.size).toBe(0);
    }
  });

  test('names that objects trip over', async () => {
    const json =
      '{"__proto__":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"__metadata__":{"__proto__":"x","constructor":"y"}}';
    const file = await openSafetensors(bytesSource(safetensorsBytes(json, 1)));
    expect(file.tensor('__proto__').byteLength).toBe(1);
    expect(Object.entries(file.metadata)).toEqual([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });
});

const f32 = (shape: string, begin: number, end: number, dtype = '"F32"') =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":[${begin},${end}]}`;

/** Header text (or whole file), bytes of data, what the message says, offset. */
const malformed: [string, Uint8Array, RegExp, number][] = [
  ['an empty file', new Uint8Array(0), /8 bytes of header length: it has 0 bytes/, 0],
  ['seven bytes', new Uint8Array(7), /it has 7 bytes/, 0],
  ['a header of no bytes', new Uint8Array(8), /must start with "\{": it is empty/, 8],
  ['a header past the end', safetensorsBytes('{}', 0).with(0, 3), /given as 3 bytes, the file has 2 after it/, 0],
  ['a header of 2^64 - 1 bytes', new Uint8Array(100).fill(255, 0, 8), /given as 18446744073709551615 bytes/, 0],
  ['something else', Uint8Array.from('GGUF\0\0\0\0GGUF', (c) => c.charCodeAt(0)), /must lie inside the file/, 0],
  ['a leading space', safetensorsBytes(' {}', 0), /must start with "\{": found byte 0x20/, 8],
  ['a byte order mark', safetensorsBytes('\ufeff{}', 0), /found byte 0xef/, 8],
  ['an array', safetensorsBytes('[]', 0), /must start with "\{"/, 8],
  ['text after the header', safetensorsBytes('{}x', 0), /one JSON value must fill the text: "x" follows it/, 10],
  ['no end', safetensorsBytes('{"a":', 0), /expected a value, found the end/, 13],
  ['a missing comma', safetensorsBytes('{"a":1"b":2}', 0), /expected "," or a closing bracket, found """/, 14],
  ['a trailing comma', safetensorsBytes('{"a":{},}', 0), /expected a key, found "}"/, 16],
  ['a key without quotes', safetensorsBytes('{a:1}', 0), /expected a key, found "a"/, 9],
  ['an open string', safetensorsBytes('{"a', 0), /strings must end/, 9],
  ['an open escape', safetensorsBytes('{"a\\', 0), /strings must end/, 9],
  ['a wrong escape', safetensorsBytes('{"\\x":1}', 0), /strings must use the escapes of JSON/, 9],
  ['a line break in a string', safetensorsBytes('{"\n":1}', 0), /must escape control characters: byte 0xa/, 10],
  ['a lone surrogate', safetensorsBytes('{"\\ud800":1}', 0), /must be UTF-8: a lone surrogate/, 9],
  [
    'bytes that are not UTF-8',
    safetensorsBytes(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), 0),
    /text must be UTF-8/,
    9,
  ],
  [
    'an overlong encoding',
    safetensorsBytes(Uint8Array.of(0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x31, 0x7d), 0),
    /text must be UTF-8/,
    9,
  ],
  ['depth', safetensorsBytes(`{"a":${'['.repeat(1e6)}`, 0), /nested too deep: more than 8 levels/, 20],
  [
    'more values than a file has',
    safetensorsBytes(`{"a":[${'0,'.repeat(4e6)}0]}`, 0),
    /more than 4000000 values/,
    8_000_010,
  ],
  ['a leading zero', safetensorsBytes(`{"a":${f32('[01]', 0, 4)}}`, 4), /numbers must be whole: the number "01"/, 37],
  ['a fraction', safetensorsBytes(`{"a":${f32('[1.5]', 0, 4)}}`, 4), /numbers must be whole: the number "1.5"/, 37],
  ['an exponent', safetensorsBytes(`{"a":${f32('[1e0]', 0, 4)}}`, 4), /numbers must be whole/, 37],
  ['a key twice', safetensorsBytes('{"a":1,"a":1}', 0), /keys must be unique: "a" appears twice/, 15],
  ['a field twice', safetensorsBytes('{"a":{"dtype":"U8","dtype":"U8"}}', 0), /"dtype" appears twice/, 27],
  ['an entry that is no object', safetensorsBytes('{"a":3}', 0), /an entry must be an object: "a" is a number/, 13],
  ['metadata that is no object', safetensorsBytes('{"__metadata__":[]}', 0), /__metadata__ must be an object/, 24],
  ['metadata that is no text', safetensorsBytes('{"__metadata__":{"a":1}}', 0), /"a" is a number/, 29],
  ['no dtype', safetensorsBytes('{"a":{}}', 0), /an entry must have a dtype: "a" has none/, 13],
  [
    'an unknown dtype',
    safetensorsBytes(`{"a":${f32('[1]', 0, 4, '"F4"')}}`, 4),
    /dtypes must be known: "a" has "F4".*F8_E4M3/,
    13,
  ],
  ['a dtype of Object', safetensorsBytes(`{"a":${f32('[1]', 0, 4, '"toString"')}}`, 4), /dtypes must be known/, 13],
  [
    'no shape',
    safetensorsBytes('{"a":{"dtype":"U8","data_offsets":[0,1]}}', 1),
    /must have a shape of numbers: "a" has none/,
    13,
  ],
  ['a shape of text', safetensorsBytes(`{"a":${f32('["1"]', 0, 4)}}`, 4), /must have a shape of numbers/, 13],
  ['a negative dimension', safetensorsBytes(`{"a":${f32('[-1]', 0, 4)}}`, 4), /shapes must be non-negative/, 13],
  [
    'a product beyond 2^53',
    safetensorsBytes(`{"a":${f32('[4294967296,4294967296]', 0, 4)}}`, 4),
    /product below 2\^53/,
    13,
  ],
  [
    'a huge dimension times 0',
    safetensorsBytes(`{"a":${f32('[18446744073709551616,0]', 0, 0)}}`, 0),
    /product below 2\^53/,
    13,
  ],
  [
    'one offset',
    safetensorsBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', 1),
    /two data_offsets: "a" has an array of 1/,
    13,
  ],
  ['offsets that fall', safetensorsBytes(`{"a":${f32('[1]', 4, 0)}}`, 4), /must rise from 0: "a" has \[4, 0\]/, 13],
  ['a negative offset', safetensorsBytes(`{"a":${f32('[1]', -4, 0)}}`, 4), /must rise from 0/, 13],
  [
    'an offset beyond 2^53',
    safetensorsBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}', 1),
    /must rise from 0/,
    13,
  ],
  [
    'bytes that do not fit the shape',
    safetensorsBytes(`{"a":${f32('[2,3]', 0, 20)}}`, 20),
    /"a", F32 \[2, 3\], needs 24 bytes and has 20/,
    13,
  ],
  [
    'a hole at the start',
    safetensorsBytes(`{"a":${f32('[1]', 4, 8)}}`, 8),
    /no holes: "a" starts at 66, the header ends at 62/,
    13,
  ],
  [
    'a hole',
    safetensorsBytes(`{"a":${f32('[1]', 0, 4)},"b":${f32('[1]', 8, 12)}}`, 12),
    /no holes: "b" starts at 124, "a" ends at 120/,
    66,
  ],
  [
    'an overlap',
    safetensorsBytes(`{"a":${f32('[2]', 0, 8)},"b":${f32('[1]', 4, 8)}}`, 8),
    /must not overlap: "b" starts at/,
    66,
  ],
  [
    'a cut file',
    safetensorsBytes(`{"a":${f32('[2]', 0, 8)}}`, 5),
    /tensors end at byte 70, the file at 67.*cut short by 3 bytes/,
    67,
  ],
  [
    'bytes after the data',
    safetensorsBytes(`{"a":${f32('[2]', 0, 8)}}`, 9),
    /tensors end at byte 70, the file at 71/,
    70,
  ],
];

describe('malformed files', () => {
  test.each(malformed)('%s', async (_, bytes, message, offset) => {
    const source = countingSource(bytes, 'bad.safetensors');
    const error = await formatError(openSafetensors(source));
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^safetensors: .* \(bad\.safetensors, byte \d+\)\./);
    expect([error.file, error.offset]).toEqual(['bad.safetensors', offset]);
    expect(source.closed).toBe(1);
    expect(error.message).toContain(error.reason);
  });

  test('a header above the limit is not read', async () => {
    const start = new Uint8Array(8);
    new DataView(start.buffer).setBigUint64(0, 100_000_001n, true);
    const reads: number[] = [];
    const source = {
      name: 'huge',
      size: 2 ** 50,
      async read(_: number, length: number) {
        reads.push(length);
        return start;
      },
    };
    expect((await formatError(openSafetensors(source))).message).toContain('at most 100 MB');
    expect(reads).toEqual([8]);
  });
});

describe('writing', () => {
  const tensors: { [name: string]: SafetensorsData } = {};
  for (const { name, dtype, shape, offset, bytes } of record.tensors) {
    tensors[name] = { dtype, shape, data: small.subarray(offset, offset + bytes) };
  }

  test('serializeSafetensors gives the very bytes of the reference library', () => {
    expect(Buffer.from(serializeSafetensors(tensors, record.metadata)).equals(small)).toBe(true);
  });

  test('SafetensorsWriter gives them too, in small pieces', async () => {
    const sink = new MemorySink();
    const declared = Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
    const writer = new SafetensorsWriter(sink, declared, record.metadata);
    expect(writer.byteLength).toBe(small.length);
    for (const { name, byteOffset, byteLength } of writer.tensors) {
      for (let at = 0; at < byteLength; at += 7) {
        await writer.write(name, small.subarray(byteOffset + at, byteOffset + Math.min(at + 7, byteLength)));
      }
    }
    await writer.finish();
    expect(Buffer.from(sink.bytes).equals(small)).toBe(true);
  });

  test('data starts at a multiple of 8, every tensor at one of its width', async () => {
    for (let n = 0; n < 9; n++) {
      const bytes = serializeSafetensors({
        ['n'.repeat(n)]: { dtype: 'U8', shape: [3], data: new Uint8Array(3) },
        z: { dtype: 'F64', shape: [], data: Float64Array.of(2) },
        y: { dtype: 'F16', shape: [1], data: new Uint16Array(1) },
      });
      const file = await openSafetensors(bytesSource(bytes));
      expect([...file.tensors.values()].map(({ byteOffset }) => byteOffset % 8)).toEqual([0, 0, 2]);
      expect(bytes[7 + Number(new DataView(bytes.buffer).getBigUint64(0, true))]).toSatisfy(
        (last) => last === 0x7d || last === 0x20,
      );
    }
  });

  test('names sort by their bytes', async () => {
    const names = ['\u{10000}', '\uffff', 'b', 'a', '10', '9', ''];
    const data = { dtype: 'U8', shape: [], data: new Uint8Array(1) } as const;
    const file = await openSafetensors(
      bytesSource(serializeSafetensors(Object.fromEntries(names.map((name) => [name, data])))),
    );
    const byBytes = names.map((name) => Buffer.from(name)).sort(Buffer.compare);
    expect([...file.tensors.keys()]).toEqual(byBytes.map(String));
  });

  test('mistakes are named', async () => {
    const sink = new MemorySink();
    const a = { name: 'a', dtype: 'F32', shape: [2] } as const;
    const b = { name: 'b', dtype: 'F32', shape: [0] } as const;
    const c = { name: 'c', dtype: 'F32', shape: [1] } as const;
    const writer = new SafetensorsWriter(sink, [c, b, a], {}, 'out.safetensors');
    const message = async (run: () => unknown) => (await formatError(async () => run())).message;
    expect(await message(() => writer.write('c', new Float32Array(1)))).toContain(
      'got "c", next is "a" (out.safetensors)',
    );
    expect(await message(() => writer.write('a', new Float32Array(3)))).toContain('"a" has 8 bytes, 12 were written');
    await writer.write('a', new Float32Array(1));
    expect(await message(() => writer.finish())).toContain('"a" has 4 of 8 bytes, 2 more follow');
    await writer.write('a', new Float32Array(1));
    await writer.write('b', new Float32Array(0));
    await writer.write('c', new Float32Array(1));
    expect(await message(() => writer.write('c', new Float32Array(1)))).toContain('next is none: all are written');
    await writer.finish();
    expect((await openSafetensors(bytesSource(sink.bytes))).tensors.size).toBe(3);
    const declare =
      (...tensors: unknown[]) =>
      () =>
        new SafetensorsWriter(sink, tensors as [typeof a]);
    expect(await message(declare(a, a))).toContain('"a" is taken');
    expect(await message(declare({ ...a, name: '__metadata__' }))).toContain('"__metadata__" is taken');
    expect(await message(declare({ ...a, name: '\ud800' }))).toContain('not well-formed');
    expect(await message(declare({ ...a, dtype: 'F4' }))).toContain('"a" has "F4"');
    expect(await message(declare({ ...a, shape: [-1] }))).toContain('"a" has [-1]');
    expect(await message(() => serializeSafetensors({}, { a: 1 as unknown as string }))).toContain(
      'metadata must map text to text',
    );
    expect(await message(() => serializeSafetensors({ a: { ...a, data: new Uint8Array(7) } }))).toContain(
      '"a" has 8 bytes, got 7',
    );
  });
});
