import { quote } from '../error.ts';
import type { Cursor } from './cursor.ts';
import type { GgufArray, GgufValue, GgufValueType } from './values.ts';
import { ggufValueTypes, isNumberType, leastBytes, numberArrays } from './values.ts';

/** Levels of arrays in arrays at most; files in use have one. */
const maxArrayDepth = 4;

/** Keys are at most this many bytes, by the specification. */
const maxKeyBytes = 65_535;

/** Reads `count` key-value pairs. Throws `FormatError` for unknown types, duplicate keys, and whatever does not fit the file. */
export async function readMetadata(cursor: Cursor, count: number): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const at = cursor.position;
    const key = await cursor.string('a metadata key', maxKeyBytes);
    if (metadata.has(key)) cursor.fail(at, 'metadata keys must be unique', `${quote(key)} appears twice`);
    const what = `the value of ${quote(key)}`;
    metadata.set(key, await readValue(cursor, await readType(cursor, what), what));
  }
  return metadata;
}

async function readType(cursor: Cursor, what: string): Promise<GgufValueType> {
  const at = cursor.position;
  if (!cursor.has(4)) await cursor.fill(4, what);
  const id = cursor.u32();
  return ggufValueTypes[id] ?? cursor.fail(at, 'metadata types must be 0 to 12', `${what} has type ${id}`);
}

async function readValue(cursor: Cursor, type: GgufValueType, what: string): Promise<GgufValue> {
  if (type === 'array') return readArray(cursor, what, 1);
  if (type === 'string') return { type, value: await cursor.string(what) };
  if (type === 'bool') return { type, value: await readBool(cursor, what) };
  const Numbers = numberArrays[type];
  const bytes = await cursor.take(Numbers.BYTES_PER_ELEMENT, what);
  return { type, value: new Numbers(bytes.buffer)[0] } as GgufValue;
}

async function readArray(cursor: Cursor, what: string, depth: number): Promise<GgufArray> {
  const at = cursor.position;
  const itemType = await readType(cursor, what);
  const count = await cursor.count(`items in ${what}`, leastBytes(itemType));
  if (isNumberType(itemType)) {
    const Numbers = numberArrays[itemType];
    const bytes = await cursor.take(count * Numbers.BYTES_PER_ELEMENT, what);
    return { type: 'array', itemType, value: new Numbers(bytes.buffer) } as GgufArray;
  }
  if (itemType === 'bool') {
    const bytes = await cursor.take(count, what);
    const wrong = bytes.findIndex((byte) => byte > 1);
    if (wrong >= 0)
      cursor.fail(cursor.position - count + wrong, 'a bool must be 0 or 1', `${what} has ${bytes[wrong]}`);
    return { type: 'array', itemType, value: bytes };
  }
  if (itemType === 'string') {
    const value: string[] = [];
    const item = `an item of ${what}`;
    for (let i = 0; i < count; i++) value.push(await cursor.string(item));
    return { type: 'array', itemType, value };
  }
  if (depth === maxArrayDepth)
    cursor.fail(at, `arrays must be nested at most ${maxArrayDepth} deep`, `${what} is deeper`);
  const value: GgufArray[] = [];
  for (let i = 0; i < count; i++) value.push(await readArray(cursor, what, depth + 1));
  return { type: 'array', itemType, value };
}

async function readBool(cursor: Cursor, what: string): Promise<boolean> {
  const at = cursor.position;
  await cursor.fill(1, what);
  const byte = cursor.u8();
  if (byte > 1) cursor.fail(at, 'a bool must be 0 or 1', `${what} is ${byte}`);
  return byte === 1;
}
