import { FormatError, quote } from '../error.ts';
import type { ByteSink } from '../sink.ts';
import { quantizeBlocks } from './quantize.ts';
import type { GgufTensor } from './read-tensors.ts';
import { maxDimensions, padTo, tensorSize } from './read-tensors.ts';
import type { GgufType, QuantizableType } from './types.ts';
import { blockOf } from './types.ts';
import type { GgufMetadata } from './values.ts';
import { encodeHeader } from './write-header.ts';

/** ggml's limit for tensor names, in bytes. */
const maxNameBytes = 63;

/** A tensor to be written; `shape` is row-major, as PyTorch has it. */
export interface GgufDeclaration {
  name: string;
  type: GgufType;
  shape: readonly number[];
}

/**
 * Writes a GGUF version 3 file front to back. Metadata goes in as given (`general.architecture` first, by custom); a
 * `general.alignment` in it sets the alignment, else it is 32.
 */
export class GgufWriter {
  /** What must be written, in the declared order, with each tensor's place in the file. */
  readonly tensors: readonly GgufTensor[];
  /** Bytes of the whole file. */
  readonly byteLength: number;
  readonly #sink: ByteSink;
  readonly #file: string;
  readonly #alignment: number;
  #header: Uint8Array | undefined;
  #next = 0;
  #written = 0;

  /** `file` names the output in errors. Throws `FormatError` for metadata, names or shapes that no file can hold. */
  constructor(sink: ByteSink, tensors: Iterable<GgufDeclaration>, metadata: GgufMetadata, file = 'output') {
    this.#sink = sink;
    this.#file = file;
    this.#alignment = this.#alignmentOf(metadata);
    const relative = this.#layOut(tensors);
    const header = encodeHeader(metadata, relative, file);
    this.#header = new Uint8Array(padTo(header.byteLength, this.#alignment));
    this.#header.set(header);
    const start = this.#header.byteLength;
    this.tensors = relative.map((tensor) => ({ ...tensor, byteOffset: start + tensor.byteOffset }));
    const last = this.tensors.at(-1);
    this.byteLength = last === undefined ? start : padTo(last.byteOffset + last.byteLength, this.#alignment);
  }

  /**
   * Appends to tensor `name`, which must be the next unfinished one of `tensors`. A `Float32Array` holds values, whole blocks of them,
   * which are turned into the declared type (F32, F16, BF16, Q8_0); a `Uint8Array` holds bytes of that type, ready made. Calls must not overlap.
   */
  async write(name: string, data: Float32Array | Uint8Array): Promise<void> {
    this.#skipEmpty();
    const tensor = this.tensors[this.#next];
    if (tensor?.name !== name) {
      if (data.length === 0 && this.tensors.some((other) => other.name === name && other.byteLength === 0)) return;
      this.#fail(
        'tensors must be written in the order of writer.tensors',
        `got ${quote(name)}, next is ${tensor === undefined ? 'none: all are written' : quote(tensor.name)}`,
      );
    }
    const block = blockOf(tensor.type);
    const length = data instanceof Float32Array ? (data.length / block.elements) * block.bytes : data.byteLength;
    if (this.#written + length > tensor.byteLength) {
      const total = this.#written + length;
      this.#fail(
        'data must fit the declared shape',
        `${quote(name)} has ${tensor.byteLength} bytes, ${total} were written`,
      );
    }
    const bytes = data instanceof Float32Array ? quantizeBlocks(tensor.type as QuantizableType, data) : data;
    await this.#writeHeader();
    await this.#sink.write(bytes);
    this.#written += bytes.byteLength;
    if (this.#written === tensor.byteLength) await this.#endTensor(tensor);
  }

  /** Ends the file. Throws `FormatError` when a tensor is missing or incomplete; the sink is not committed here. */
  async finish(): Promise<void> {
    this.#skipEmpty();
    const tensor = this.tensors[this.#next];
    if (tensor !== undefined) {
      const facts = `${quote(tensor.name)} has ${this.#written} of ${tensor.byteLength} bytes, ${this.tensors.length - this.#next - 1} more follow`;
      this.#fail('every declared tensor must be written', facts);
    }
    await this.#writeHeader();
  }

  #layOut(declarations: Iterable<GgufDeclaration>): GgufTensor[] {
    const names = new Set<string>();
    const tensors: GgufTensor[] = [];
    let byteOffset = 0;
    for (const { name, type, shape } of declarations) {
      const bytes = new TextEncoder().encode(name).byteLength;
      if (bytes > maxNameBytes || names.has(name)) {
        const facts = names.has(name) ? `${quote(name)} is declared twice` : `${quote(name)} has ${bytes}`;
        this.#fail(`tensor names must be unique and at most ${maxNameBytes} bytes`, facts);
      }
      names.add(name);
      const size =
        shape.length > maxDimensions
          ? `tensors must have at most ${maxDimensions} dimensions`
          : tensorSize(type, shape);
      if (typeof size === 'string') this.#fail(size, `${quote(name)}, ${type}, is [${shape.join(', ')}]`);
      tensors.push({ name, type, shape: [...shape], elements: size.elements, byteOffset, byteLength: size.bytes });
      byteOffset = padTo(byteOffset + size.bytes, this.#alignment);
    }
    return tensors;
  }

  #alignmentOf(metadata: GgufMetadata): number {
    const found = metadata.get('general.alignment');
    if (found === undefined) return 32;
    if (found.type === 'uint32' && found.value >= 8 && (found.value & (found.value - 1)) === 0) return found.value;
    return this.#fail(
      'general.alignment must be a uint32 and a power of two of at least 8',
      `it is ${String(found.value)}`,
    );
  }

  async #endTensor(tensor: GgufTensor): Promise<void> {
    const padding = padTo(tensor.byteLength, this.#alignment) - tensor.byteLength;
    this.#next++;
    this.#written = 0;
    if (padding > 0) await this.#sink.write(new Uint8Array(padding));
  }

  #skipEmpty(): void {
    while (this.tensors[this.#next]?.byteLength === 0) this.#next++;
  }

  async #writeHeader(): Promise<void> {
    const header = this.#header;
    this.#header = undefined;
    if (header !== undefined) await this.#sink.write(header);
  }

  #fail(rule: string, facts: string): never {
    throw new FormatError('gguf', rule, { file: this.#file, facts });
  }
}
