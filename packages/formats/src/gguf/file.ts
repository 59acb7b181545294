import { FormatError, nearest, quote } from '../error.ts';
import type { ByteSource } from '../source.ts';
import { closeOnError } from '../source.ts';
import { TensorFile } from '../tensor-file.ts';
import { Cursor } from './cursor.ts';
import { dequantizeBlocks } from './dequantize.ts';
import { readMetadata } from './read-metadata.ts';
import type { GgufTensor } from './read-tensors.ts';
import { padTo, placeTensors, readTensorEntries } from './read-tensors.ts';
import type { DequantizableType } from './types.ts';
import { blockOf, isDequantizable, unsupportedType } from './types.ts';
import type { GgufMetadata, GgufNumbers, GgufValue } from './values.ts';
import { isNumberType } from './values.ts';

/** Tensors, and metadata values, at most; the largest models in use have some thousands. */
const maxCount = 1 << 20;

/** Limits for reading. */
export interface GgufOptions {
  /** Longest header read (metadata with the tokenizer, tensor entries), in bytes; default 256 MiB. */
  maxHeaderBytes?: number;
}

/** What the header of a GGUF file says, checked. */
export interface GgufHeader {
  /** 2 or 3. */
  version: number;
  /** Bytes that tensor offsets are multiples of. */
  alignment: number;
  metadata: GgufMetadata;
  tensors: ReadonlyMap<string, GgufTensor>;
}

/** An open GGUF file: metadata, tensors, raw blocks and f32 values. Made by `openGguf`. */
export class GgufFile extends TensorFile<GgufTensor> {
  readonly version: number;
  readonly alignment: number;
  /** All key-value pairs with their types; `string`, `number`, `strings` and `numbers` look up one of a given kind. */
  readonly metadata: GgufMetadata;

  constructor(source: ByteSource, header: GgufHeader) {
    super(source, header.tensors, {
      format: 'gguf',
      unit: (tensor) => blockOf(tensor.type).bytes,
      alignment: (tensor) => (blockOf(tensor.type).elements === 1 ? blockOf(tensor.type).bytes : 1),
    });
    this.version = header.version;
    this.alignment = header.alignment;
    this.metadata = header.metadata;
  }

  /** A string of the metadata. Without `fallback` a missing key is an error; another type always is. */
  string(key: string, fallback?: string): string {
    const found = this.#value(key, 'a string', fallback);
    if (found === undefined) return fallback!;
    return found.type === 'string' ? found.value : this.#wrongType(key, 'a string', found);
  }

  /** A number of the metadata, of any integer or float type (64-bit integers must be exact as a double). */
  number(key: string, fallback?: number): number {
    const found = this.#value(key, 'a number', fallback);
    if (found === undefined) return fallback!;
    if (typeof found.value === 'number') return found.value;
    if (typeof found.value === 'bigint' && Number.isSafeInteger(Number(found.value))) return Number(found.value);
    return this.#wrongType(key, 'a number', found);
  }

  /** An array of strings of the metadata (`tokenizer.ggml.tokens`, …). */
  strings(key: string): readonly string[] {
    const found = this.#value(key, 'an array of strings', undefined)!;
    if (found.type === 'array' && found.itemType === 'string') return found.value;
    return this.#wrongType(key, 'an array of strings', found);
  }

  /** An array of numbers of the metadata (`tokenizer.ggml.token_type`, `scores`, …); not of 64-bit integers. */
  numbers(key: string): GgufNumbers {
    const found = this.#value(key, 'an array of numbers', undefined)!;
    if (found.type !== 'array' || !isNumberType(found.itemType) || found.itemType.endsWith('int64')) {
      return this.#wrongType(key, 'an array of numbers', found);
    }
    return found.value as GgufNumbers;
  }

  /** A whole tensor as f32. Throws `FormatError` for a type that cannot be dequantized. */
  async readF32(name: string): Promise<Float32Array> {
    const type = this.#dequantizable(name);
    const out = new Float32Array(this.tensor(name).elements);
    const block = blockOf(type);
    let filled = 0;
    for await (const bytes of this.lend(name)) {
      const end = filled + (bytes.byteLength / block.bytes) * block.elements;
      dequantizeBlocks(type, bytes, out.subarray(filled, end));
      filled = end;
    }
    return out;
  }

  /** A tensor as f32 in pieces of whole blocks, of at most `chunkElements` values (at least one block) each. */
  async *streamF32(name: string, chunkElements = 1 << 20): AsyncGenerator<Float32Array, void, undefined> {
    const type = this.#dequantizable(name);
    const block = blockOf(type);
    const chunkBytes = Math.max(1, Math.floor(chunkElements / block.elements)) * block.bytes;
    for await (const bytes of this.lend(name, chunkBytes)) yield dequantizeBlocks(type, bytes);
  }

  #dequantizable(name: string): DequantizableType {
    const { type, byteOffset } = this.tensor(name);
    if (isDequantizable(type)) return type;
    throw unsupportedType(type, this.name, { name, offset: byteOffset });
  }

  #value(key: string, wanted: string, fallback: unknown): GgufValue | undefined {
    const found = this.metadata.get(key);
    if (found !== undefined || fallback !== undefined) return found;
    throw new FormatError('gguf', 'the metadata must have the key', {
      file: this.name,
      facts: `no ${quote(key)} (${wanted})`,
      hint: this.metadata.size === 0 ? undefined : `Nearest: ${nearest(key, this.metadata.keys())}.`,
    });
  }

  #wrongType(key: string, wanted: string, found: GgufValue): never {
    const type = found.type === 'array' ? `an array of ${found.itemType}` : `a ${found.type}`;
    throw new FormatError('gguf', 'metadata must have the type its reader needs', {
      file: this.name,
      facts: `${quote(key)} is ${type}, not ${wanted}`,
    });
  }
}

/**
 * Reads and checks the header of a GGUF file, version 2 or 3, little-endian; no tensor data is read, and no header byte twice.
 * The file owns `source`: closing it, or an error here, closes the source.
 */
export async function openGguf(source: ByteSource, options: GgufOptions = {}): Promise<GgufFile> {
  return closeOnError(source, async () => new GgufFile(source, await readHeader(source, options)));
}

async function readHeader(source: ByteSource, options: GgufOptions): Promise<GgufHeader> {
  const cursor = new Cursor(source, options.maxHeaderBytes ?? 256 << 20);
  await cursor.fill(8, 'magic and version');
  checkMagic(cursor);
  const version = cursor.u32();
  checkVersion(cursor, version);
  const tensorCount = await cursor.count('tensors', 24, maxCount);
  const valueCount = await cursor.count('metadata values', 13, maxCount);
  const metadata = await readMetadata(cursor, valueCount);
  const entries = await readTensorEntries(cursor, tensorCount);
  const alignment = alignmentOf(metadata, source.name);
  const tensors = placeTensors(entries, padTo(cursor.position, alignment), alignment, source);
  return { version, alignment, metadata, tensors };
}

function checkMagic(cursor: Cursor): void {
  const magic = cursor.u32();
  // "GGUF" read as a little-endian number.
  if (magic === 0x46554747) return;
  const bytes = [0, 8, 16, 24].map((shift) => ((magic >>> shift) & 0xff).toString(16).padStart(2, '0'));
  cursor.fail(0, 'a file must start with "GGUF"', `found bytes ${bytes.join(' ')}`);
}

function checkVersion(cursor: Cursor, version: number): void {
  if (version === 2 || version === 3) return;
  const facts = version !== 0 && (version & 0xffff) === 0 ? 'the file is big-endian' : `the version is ${version}`;
  throw new FormatError('gguf', 'the version must be 2 or 3, little-endian', {
    file: cursor.file,
    offset: 4,
    facts,
    hint: 'Convert it: gguf-convert-endian for a big-endian file, llama-quantize of an older llama.cpp for version 1.',
  });
}

function alignmentOf(metadata: GgufMetadata, file: string): number {
  const found = metadata.get('general.alignment');
  if (found === undefined) return 32;
  if (found.type === 'uint32' && found.value > 0 && (found.value & (found.value - 1)) === 0) return found.value;
  throw new FormatError('gguf', 'general.alignment must be a uint32 and a power of two', {
    file,
    offset: 0,
    facts: `it is ${found.type === 'array' ? 'an array' : `a ${found.type}, ${found.value}`}`,
  });
}
