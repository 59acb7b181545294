import { FormatError, quote } from '../error.ts';
import type { ByteSink } from '../sink.ts';
import { bytesOf } from '../sink.ts';
import type { SafetensorsDtype } from './dtype.ts';
import { dtypeRank, tensorBytes } from './dtype.ts';
import type { SafetensorsTensor } from './header.ts';
import { maxHeaderBytes } from './header.ts';

/** A tensor to be written. */
export interface SafetensorsDeclaration {
  name: string;
  dtype: SafetensorsDtype;
  shape: readonly number[];
}

/**
 * Writes a safetensors file front to back. `tensors` holds the declared tensors in the order in which their data must come: that of the
 * reference writer (wider dtypes first, then by name), which keeps every tensor aligned and gives its very bytes.
 */
export class SafetensorsWriter {
  /** What must be written, in order, with each tensor's place in the file. */
  readonly tensors: readonly SafetensorsTensor[];
  /** Bytes of the whole file. */
  readonly byteLength: number;
  readonly #sink: ByteSink;
  readonly #file: string;
  #header: Uint8Array | undefined;
  #next = 0;
  #written = 0;

  /** `file` names the output in errors. Throws `FormatError` for names, shapes or metadata that no file can hold. */
  constructor(
    sink: ByteSink,
    tensors: Iterable<SafetensorsDeclaration>,
    metadata?: Readonly<Record<string, string>>,
    file = 'output',
  ) {
    const { header, places, byteLength } = layOut(tensors, metadata, file);
    this.#sink = sink;
    this.#file = file;
    this.#header = header;
    this.tensors = places;
    this.byteLength = byteLength;
  }

  /**
   * Appends `data` (little-endian elements, or any typed array of them) to tensor `name`, which must be the next unfinished one of
   * `tensors`. A tensor may come in many pieces. Calls must not overlap.
   */
  async write(name: string, data: ArrayBufferView): Promise<void> {
    this.#skipEmpty();
    const tensor = this.tensors[this.#next];
    if (tensor?.name !== name) {
      if (data.byteLength === 0 && this.tensors.some((other) => other.name === name && other.byteLength === 0)) return;
      throw new FormatError('safetensors', 'tensors must be written in the order of writer.tensors', {
        file: this.#file,
        facts: `got ${quote(name)}, next is ${tensor === undefined ? 'none: all are written' : quote(tensor.name)}`,
      });
    }
    if (this.#written + data.byteLength > tensor.byteLength) {
      throw new FormatError('safetensors', 'data must fit the declared shape', {
        file: this.#file,
        facts: `${quote(name)} has ${tensor.byteLength} bytes, ${this.#written + data.byteLength} were written`,
      });
    }
    await this.#writeHeader();
    await this.#sink.write(bytesOf(data));
    this.#written += data.byteLength;
    if (this.#written === tensor.byteLength) {
      this.#next++;
      this.#written = 0;
    }
  }

  /** Ends the file. Throws `FormatError` when a tensor is missing or incomplete; the sink is not committed here. */
  async finish(): Promise<void> {
    this.#skipEmpty();
    const tensor = this.tensors[this.#next];
    if (tensor !== undefined) {
      throw new FormatError('safetensors', 'every declared tensor must be written', {
        file: this.#file,
        facts: `${quote(tensor.name)} has ${this.#written} of ${tensor.byteLength} bytes, ${this.tensors.length - this.#next - 1} more follow`,
      });
    }
    await this.#writeHeader();
  }

  #skipEmpty(): void {
    while (this.tensors[this.#next]?.byteLength === 0) this.#next++;
  }

  async #writeHeader(): Promise<void> {
    const header = this.#header;
    this.#header = undefined;
    if (header !== undefined) await this.#sink.write(header);
  }
}

/** A tensor with its data. */
export interface SafetensorsData {
  dtype: SafetensorsDtype;
  shape: readonly number[];
  /** Little-endian elements: bytes, or a typed array whose elements have the dtype's width. */
  data: ArrayBufferView;
}

/** A whole safetensors file in memory; for adapters and tests. Models are streamed with `SafetensorsWriter`. */
export function serializeSafetensors(
  tensors: Readonly<Record<string, SafetensorsData>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const declared = Object.entries(tensors).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const { header, places, byteLength } = layOut(declared, metadata, 'output');
  const out = new Uint8Array(byteLength);
  out.set(header);
  for (const { name, byteOffset, byteLength } of places) {
    const bytes = bytesOf(tensors[name]!.data);
    if (bytes.byteLength !== byteLength) {
      throw new FormatError('safetensors', 'data must fit the declared shape', {
        file: 'output',
        facts: `${quote(name)} has ${byteLength} bytes, got ${bytes.byteLength}`,
      });
    }
    out.set(bytes, byteOffset);
  }
  return out;
}

interface Layout {
  /** Length, JSON, and spaces to a multiple of 8. */
  header: Uint8Array;
  /** In the order of the file. */
  places: SafetensorsTensor[];
  /** Of the whole file. */
  byteLength: number;
}

function layOut(
  declared: Iterable<SafetensorsDeclaration>,
  metadata: Readonly<Record<string, string>> | undefined,
  file: string,
): Layout {
  const tensors = [...declared].sort((a, b) => dtypeRank(b.dtype) - dtypeRank(a.dtype) || compareUtf8(a.name, b.name));
  const entries: [string, unknown][] = metadata === undefined ? [] : [['__metadata__', checkMetadata(metadata, file)]];
  const names = new Set(['__metadata__']);
  const begins: number[] = [];
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name) || /\p{Surrogate}/u.test(name)) {
      const facts = `${quote(name)} is ${names.has(name) ? 'taken' : 'not well-formed'}`;
      throw new FormatError('safetensors', 'tensor names must be unique text', { file, facts });
    }
    names.add(name);
    begins.push(end);
    end += tensorBytes(name, dtype, shape, { file });
    entries.push([name, { dtype, shape, data_offsets: [begins.at(-1), end] }]);
  }
  // Joined by hand: an object would move names that look like numbers to the front.
  const members = entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  if (padded > maxHeaderBytes) {
    throw new FormatError('safetensors', 'the header must be at most 100 MB', {
      file,
      facts: `it would have ${padded}`,
    });
  }
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  const places = tensors.map(({ name, dtype, shape }, i) => {
    const begin = begins[i]!;
    const byteLength = (begins[i + 1] ?? end) - begin;
    return { name, dtype, shape: [...shape], byteOffset: header.byteLength + begin, byteLength };
  });
  return { header, places, byteLength: header.byteLength + end };
}

function checkMetadata(metadata: Readonly<Record<string, string>>, file: string): Readonly<Record<string, string>> {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value === 'string' && !/\p{Surrogate}/u.test(key + value)) continue;
    throw new FormatError('safetensors', 'metadata must map text to text', { file, facts: `${quote(key)} does not` });
  }
  return metadata;
}

/** Order of the UTF-8 bytes, which is that of the code points. */
function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates stand for code points above every other code unit.
    const xHigh = x >= 0xd800 && x <= 0xdfff;
    const yHigh = y >= 0xd800 && y <= 0xdfff;
    return xHigh === yHigh ? x - y : xHigh ? 1 : -1;
  }
  return a.length - b.length;
}
