import { FormatError, quote } from '../error.ts';
import { bytesOf, MemorySink } from '../sink.ts';
import type { GgufTensor } from './read-tensors.ts';
import { ggufTypeId } from './types.ts';
import type { GgufArray, GgufMetadata, GgufValue, GgufValueType } from './values.ts';
import { ggufValueTypes, isNumberType, numberArrays } from './values.ts';

/** The header of a version 3 file, up to the padding. `tensors` carry offsets from the start of the data section. */
export function encodeHeader(metadata: GgufMetadata, tensors: readonly GgufTensor[], file: string): Uint8Array {
  const out = new Encoder(file);
  out.bytes(new TextEncoder().encode('GGUF'));
  out.u32(3);
  out.u64(tensors.length);
  out.u64(metadata.size);
  for (const [key, value] of metadata) {
    if (key === '' || new TextEncoder().encode(key).byteLength > 65_535) {
      out.fail('metadata keys must have 1 to 65535 bytes', quote(key));
    }
    out.string(key);
    out.type(value.type);
    out.value(key, value);
  }
  for (const { name, shape, type, byteOffset } of tensors) {
    out.string(name);
    out.u32(shape.length);
    for (const dimension of shape.toReversed()) out.u64(dimension);
    out.u32(ggufTypeId(type));
    out.u64(byteOffset);
  }
  return out.sink.bytes;
}

class Encoder {
  readonly sink = new MemorySink();
  readonly #file: string;
  readonly #utf8 = new TextEncoder();

  constructor(file: string) {
    this.#file = file;
  }

  bytes(bytes: Uint8Array): void {
    this.sink.write(bytes);
  }

  u32(value: number): void {
    this.bytes(bytesOf(Uint32Array.of(value)));
  }

  u64(value: number): void {
    this.bytes(bytesOf(BigUint64Array.of(BigInt(value))));
  }

  string(text: string): void {
    if (/\p{Surrogate}/u.test(text)) this.fail('strings must be well-formed', quote(text));
    const bytes = this.#utf8.encode(text);
    this.u64(bytes.byteLength);
    this.bytes(bytes);
  }

  type(type: GgufValueType): void {
    const id = ggufValueTypes.indexOf(type);
    if (id < 0) this.fail('metadata types must be known', `got ${quote(String(type))}`);
    this.u32(id);
  }

  value(key: string, entry: GgufValue): void {
    const { type, value } = entry;
    const number = isNumberType(type) ? storedNumber(type, value) : undefined;
    if (number !== undefined) this.bytes(number);
    else if (type === 'array') this.array(key, entry);
    else if (type === 'string' && typeof value === 'string') this.string(value);
    else if (type === 'bool' && typeof value === 'boolean') this.bytes(Uint8Array.of(value ? 1 : 0));
    else this.fail('metadata values must fit their types', `${quote(key)} is a ${type} with value ${String(value)}`);
  }

  array(key: string, { itemType, value }: GgufArray): void {
    this.type(itemType);
    this.u64(value.length);
    if (isNumberType(itemType) && value instanceof numberArrays[itemType]) this.bytes(bytesOf(value));
    else if (itemType === 'bool' && value instanceof Uint8Array && value.every((item) => item <= 1)) this.bytes(value);
    else if (itemType === 'string' && Array.isArray(value)) {
      for (const item of value) this.value(key, { type: itemType, value: item as string });
    } else if (itemType === 'array' && Array.isArray(value)) {
      for (const item of value) this.array(key, item as GgufArray);
    } else {
      this.fail('metadata arrays must be what their item type asks for', `${quote(key)} is an array of ${itemType}`);
    }
  }

  fail(rule: string, facts: string): never {
    throw new FormatError('gguf', rule, { file: this.#file, facts });
  }
}

/** The bytes of a number of a type, or undefined when the type does not hold it. */
function storedNumber(type: keyof typeof numberArrays, value: unknown): Uint8Array | undefined {
  const wanted = type === 'uint64' || type === 'int64' ? 'bigint' : 'number';
  if (typeof value !== wanted) return undefined;
  const stored = new numberArrays[type](1);
  (stored as unknown as { 0: unknown })[0] = value;
  // Floats are rounded to the type; an integer must come back as it went in.
  const isFloat = type === 'float32' || type === 'float64';
  return isFloat || stored[0] === value ? bytesOf(stored) : undefined;
}
