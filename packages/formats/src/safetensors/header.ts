import { FormatError, quote } from '../error.ts';
import type { JsonNode } from '../json.ts';
import { parseJson } from '../json.ts';
import type { TensorPlace } from '../tensor-file.ts';
import type { SafetensorsDtype } from './dtype.ts';
import { tensorBytes } from './dtype.ts';

/** Longest header the format allows, in bytes. */
export const maxHeaderBytes = 100_000_000;

/** A tensor of a safetensors file. */
export interface SafetensorsTensor extends TensorPlace {
  readonly dtype: SafetensorsDtype;
}

/** What a header says, checked. */
export interface SafetensorsHeader {
  /** `__metadata__`; an object without a prototype. */
  readonly metadata: Readonly<Record<string, string>>;
  /** In order of `byteOffset`. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
}

interface Entry extends SafetensorsTensor {
  /** Where the header speaks of it. */
  at: number;
}

/**
 * Reads the JSON of a header (`json`, which starts at byte 8 of `file`) and holds it against the file's size: every tensor's bytes must
 * follow from its dtype and shape, and all data must fill the file from the header's end to the last byte, without hole or overlap.
 */
export function parseHeader(json: Uint8Array, file: string, fileSize: number): SafetensorsHeader {
  const format = 'safetensors';
  if (json[0] !== 0x7b) {
    throw new FormatError(format, 'the header must start with "{"', {
      file,
      offset: 8,
      facts: json.length === 0 ? 'it is empty' : `found byte 0x${json[0]!.toString(16)}`,
      hint: 'This is not a safetensors file.',
    });
  }
  const dataStart = 8 + json.byteLength;
  const root = parseJson(json, { format, file, base: 8, maxDepth: 8, maxValues: 4_000_000, integersOnly: true });
  const members = root.value as Map<string, JsonNode>;
  const entries: Entry[] = [];
  let metadata: Record<string, string> = Object.create(null);
  for (const [name, node] of members) {
    if (name === '__metadata__') metadata = parseMetadata(node, file);
    else entries.push(parseEntry(name, node, dataStart, file));
  }
  entries.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(entries, dataStart, file, fileSize);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const { at: _, ...tensor } of entries) tensors.set(tensor.name, tensor);
  return { metadata, tensors };
}

function parseMetadata(node: JsonNode, file: string): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  if (!(node.value instanceof Map)) throw entryError(file, node.at, '__metadata__ must be an object', kind(node));
  for (const [key, value] of node.value) {
    if (typeof value.value !== 'string') {
      throw entryError(file, value.at, '__metadata__ must map strings to strings', `${quote(key)} is ${kind(value)}`);
    }
    metadata[key] = value.value;
  }
  return metadata;
}

function parseEntry(name: string, node: JsonNode, dataStart: number, file: string): Entry {
  const { at, value } = node;
  if (!(value instanceof Map))
    throw entryError(file, at, 'an entry must be an object', `${quote(name)} is ${kind(node)}`);
  const dtype = value.get('dtype');
  if (typeof dtype?.value !== 'string') {
    throw entryError(file, at, 'an entry must have a dtype', `${quote(name)} has ${kind(dtype)}`);
  }
  const shape = numbers(value.get('shape'));
  if (shape === undefined) {
    throw entryError(
      file,
      at,
      'an entry must have a shape of numbers',
      `${quote(name)} has ${kind(value.get('shape'))}`,
    );
  }
  const offsets = numbers(value.get('data_offsets'));
  const [begin, end] = offsets ?? [];
  if (offsets?.length !== 2 || begin === undefined || end === undefined) {
    const found = kind(value.get('data_offsets'));
    throw entryError(file, at, 'an entry must have two data_offsets', `${quote(name)} has ${found}`);
  }
  if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end) || begin < 0 || end < begin) {
    throw entryError(file, at, 'data_offsets must rise from 0', `${quote(name)} has [${begin}, ${end}]`);
  }
  const byteLength = tensorBytes(name, dtype.value, shape, { file, offset: at });
  if (byteLength !== end - begin) {
    throw entryError(
      file,
      at,
      'data_offsets must fit dtype and shape',
      `${quote(name)}, ${dtype.value} [${shape.join(', ')}], needs ${byteLength} bytes and has ${end - begin}`,
    );
  }
  return { name, dtype: dtype.value as SafetensorsDtype, shape, byteOffset: dataStart + begin, byteLength, at };
}

/** `entries` sorted by offset must tile the file from `dataStart` to `fileSize`. */
function checkLayout(entries: readonly Entry[], dataStart: number, file: string, fileSize: number): void {
  let end = dataStart;
  let last: Entry | undefined;
  for (const entry of entries) {
    if (entry.byteOffset !== end) {
      const overlap = entry.byteOffset < end;
      const after = last === undefined ? 'the header' : quote(last.name);
      throw entryError(
        file,
        entry.at,
        overlap ? 'tensors must not overlap' : 'data must have no holes',
        `${quote(entry.name)} starts at ${entry.byteOffset}, ${after} ends at ${end}`,
      );
    }
    end += entry.byteLength;
    last = entry;
  }
  if (end === fileSize) return;
  throw new FormatError('safetensors', 'data must end where the file ends', {
    file,
    offset: Math.min(end, fileSize),
    facts: `tensors end at byte ${end}, the file at ${fileSize}`,
    hint: end > fileSize ? `The file is cut short by ${end - fileSize} bytes; copy or download it again.` : undefined,
  });
}

function numbers(node: JsonNode | undefined): number[] | undefined {
  if (!Array.isArray(node?.value)) return undefined;
  const items = node.value.map((item) => item.value);
  return items.every((item) => typeof item === 'number') ? items : undefined;
}

function kind(node: JsonNode | undefined): string {
  if (node === undefined) return 'none';
  if (node.value === null) return 'null';
  if (Array.isArray(node.value)) return `an array of ${node.value.length}`;
  return node.value instanceof Map ? 'an object' : `a ${typeof node.value}`;
}

function entryError(file: string, offset: number, rule: string, facts: string): FormatError {
  return new FormatError('safetensors', rule, { file, offset, facts });
}
