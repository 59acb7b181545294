import { FormatError, nearest, quote } from './error.ts';
import type { ByteSource } from './source.ts';
import { aligned, ChunkMemory, checkRange, lendRange, streamRange } from './source.ts';

/** Where a tensor's bytes lie in its file. */
export interface TensorPlace {
  readonly name: string;
  /** Row-major, outermost dimension first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Bytes read at a time by `stream` where the caller does not say: 4 MiB. */
const defaultChunkBytes = 4 << 20;

/** What reading tensors out of a file needs to know of its format. */
export interface TensorFileFormat<Place extends TensorPlace> {
  /** Named in errors. */
  format: string;
  /** Bytes that must not be cut: an element, or a block of a quantized type. */
  unit(place: Place): number;
  /** Bytes an address must be a multiple of for a typed array over the data. */
  alignment(place: Place): number;
}

/** A file of named tensors: header in memory, data read when asked for. */
export class TensorFile<Place extends TensorPlace> {
  /** The source's name. */
  readonly name: string;
  /** Every tensor by name, in the order of the file. */
  readonly tensors: ReadonlyMap<string, Place>;
  readonly #source: ByteSource;
  readonly #format: TensorFileFormat<Place>;
  readonly #lent = new ChunkMemory();

  constructor(source: ByteSource, tensors: ReadonlyMap<string, Place>, format: TensorFileFormat<Place>) {
    this.name = source.name;
    this.tensors = tensors;
    this.#source = source;
    this.#format = format;
  }

  /** The tensor called `name`. Throws `FormatError` with the nearest names when there is none. */
  tensor(name: string): Place {
    const place = this.tensors.get(name);
    if (place !== undefined) return place;
    throw new FormatError(this.#format.format, 'the tensor must be in the file', {
      file: this.name,
      facts: `no ${quote(name)} among ${this.tensors.size} tensors`,
      hint: this.tensors.size === 0 ? undefined : `Nearest: ${nearest(name, this.tensors.keys())}.`,
    });
  }

  /**
   * Bytes `begin` to `end` of a tensor (default: all), little-endian as in the file. From `begin` 0 they are aligned for a typed
   * array of the element type. They may alias the source: treat them as read-only.
   */
  async read(name: string, begin = 0, end?: number): Promise<Uint8Array> {
    const place = this.tensor(name);
    const stop = end ?? place.byteLength;
    checkRange({ name: `${quote(name)} of ${this.name}`, size: place.byteLength }, begin, stop - begin);
    const bytes = await this.#source.read(place.byteOffset + begin, stop - begin);
    return aligned(bytes, this.#format.alignment(place));
  }

  /** A tensor's bytes in chunks of at most `chunkBytes`, never cutting an element or a quantized block. */
  async *stream(name: string, chunkBytes: number = defaultChunkBytes): AsyncGenerator<Uint8Array, void, undefined> {
    const place = this.tensor(name);
    const alignment = this.#format.alignment(place);
    const unit = this.#format.unit(place);
    for await (const chunk of streamRange(this.#source, place.byteOffset, place.byteLength, chunkBytes, unit)) {
      yield aligned(chunk, alignment);
    }
  }

  /**
   * The same, quicker, with chunks that are lent: a chunk lasts until the next one is asked for, and its memory is used again. From a file
   * the next chunks are read meanwhile.
   */
  async *lend(name: string, chunkBytes: number = defaultChunkBytes): AsyncGenerator<Uint8Array, void, undefined> {
    const place = this.tensor(name);
    const alignment = this.#format.alignment(place);
    const unit = this.#format.unit(place);
    const { byteOffset, byteLength } = place;
    for await (const chunk of lendRange(this.#source, byteOffset, byteLength, chunkBytes, unit, this.#lent)) {
      yield aligned(chunk, alignment);
    }
  }

  /** Closes the source. */
  async close(): Promise<void> {
    await this.#source.close?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
