import { FormatError, quote } from '../error.ts';
import type { TensorPlace } from '../tensor-file.ts';
import type { Cursor } from './cursor.ts';
import type { GgufType } from './types.ts';
import { blockOf, ggufTypeOf } from './types.ts';

/** ggml tensors have at most four dimensions. */
export const maxDimensions = 4;

/** A tensor of a GGUF file. `shape` is row-major (the reverse of the order in the file); rows are whole blocks. */
export interface GgufTensor extends TensorPlace {
  readonly type: GgufType;
  /** Product of the dimensions. */
  readonly elements: number;
}

/** A tensor as its entry describes it; `byteOffset` counts from the start of the data section. */
export interface TensorEntry extends GgufTensor {
  /** Where the entry stands in the file. */
  at: number;
}

/** Reads `count` tensor entries. Throws `FormatError` for unknown types, impossible shapes and duplicate names. */
export async function readTensorEntries(cursor: Cursor, count: number): Promise<TensorEntry[]> {
  const names = new Set<string>();
  const entries: TensorEntry[] = [];
  for (let i = 0; i < count; i++) {
    const entry = await readEntry(cursor);
    if (names.has(entry.name))
      cursor.fail(entry.at, 'tensor names must be unique', `${quote(entry.name)} appears twice`);
    names.add(entry.name);
    entries.push(entry);
  }
  return entries;
}

async function readEntry(cursor: Cursor): Promise<TensorEntry> {
  const at = cursor.position;
  const name = await cursor.string('a tensor name', 65_535);
  const what = `tensor ${quote(name)}`;
  await cursor.fill(4, what);
  const dimensions = cursor.u32();
  if (dimensions > maxDimensions) {
    cursor.fail(at, `tensors must have at most ${maxDimensions} dimensions`, `${what} has ${dimensions}`);
  }
  await cursor.fill(dimensions * 8 + 12, what);
  const shape = Array.from({ length: dimensions }, () => cursor.u64()).reverse();
  const id = cursor.u32();
  const byteOffset = cursor.u64();
  const type = ggufTypeOf(id);
  if (type === undefined) {
    throw new FormatError('gguf', 'tensor types must be known', {
      file: cursor.file,
      offset: at,
      facts: `${what} has type number ${id}`,
      hint: 'The type is newer than this library or was removed from ggml; convert the file with llama-quantize.',
    });
  }
  const size = tensorSize(type, shape);
  if (typeof size === 'string') cursor.fail(at, size, `${what}, ${type}, is [${shape.join(', ')}]`);
  return { name, type, shape, elements: size.elements, byteOffset, byteLength: size.bytes, at };
}

/** Elements and bytes of a tensor, or the rule that its shape breaks. */
export function tensorSize(type: GgufType, shape: readonly number[]): { elements: number; bytes: number } | string {
  const block = blockOf(type);
  const elements = shape.reduce((product, dimension) => product * dimension, 1);
  const whole = shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0);
  const bytes = (elements / block.elements) * block.bytes;
  // NaN, from 0 times an overflow, is no safe integer either.
  if (!whole || !Number.isSafeInteger(elements) || bytes > Number.MAX_SAFE_INTEGER) {
    return 'dimensions must be whole numbers with a product below 2^53';
  }
  if ((shape.at(-1) ?? 1) % block.elements !== 0) return `rows must be whole blocks of ${block.elements}`;
  return { elements, bytes };
}

/**
 * Turns offsets into places in the file. As in ggml, tensors lie one after the other in the order of their entries, each padded to
 * `alignment`, from `dataStart` to at most the file's end.
 */
export function placeTensors(
  entries: readonly TensorEntry[],
  dataStart: number,
  alignment: number,
  file: { name: string; size: number },
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  let expected = 0;
  for (const { at, ...tensor } of entries) {
    const { name, byteOffset, byteLength } = tensor;
    if (byteOffset !== expected) {
      throw new FormatError('gguf', 'tensors must lie one after the other', {
        file: file.name,
        offset: at,
        facts: `${quote(name)} has offset ${byteOffset}, ${expected} is next (alignment ${alignment})`,
      });
    }
    const end = dataStart + byteOffset + byteLength;
    if (end > file.size) {
      throw new FormatError('gguf', 'tensor data must lie inside the file', {
        file: file.name,
        offset: at,
        facts: `${quote(name)} ends at byte ${end}, the file at ${file.size}`,
        hint: `The file is cut short; copy or download it again.`,
      });
    }
    expected = padTo(byteOffset + byteLength, alignment);
    tensors.set(name, { ...tensor, byteOffset: dataStart + byteOffset });
  }
  return tensors;
}

/** The least multiple of `alignment` that is at least `offset`. */
export function padTo(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
