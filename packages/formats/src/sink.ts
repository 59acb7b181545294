/**
 * Where bytes are written one after another. A `WritableStreamDefaultWriter` and a browser's `FileSystemWritableFileStream`
 * are sinks as they are. A sink must be done with `bytes` when its promise resolves.
 */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void> | void;
}

/** A sink whose bytes appear all at once, or not at all. `AtomicFileWriter` of `@lowrank/formats/node` is one. */
export interface FileSink extends ByteSink {
  /** Makes the bytes durable and visible under the final name. */
  commit(): Promise<void>;
  /** Throws away what was written; harmless after `commit`. */
  abort(): Promise<void>;
}

/** A sink that keeps its bytes in memory. */
export class MemorySink implements FileSink {
  #buffer = new Uint8Array(1024);
  #length = 0;

  write(bytes: Uint8Array): void {
    const length = this.#length + bytes.byteLength;
    if (length > this.#buffer.byteLength) {
      const grown = new Uint8Array(Math.max(length, this.#buffer.byteLength * 2));
      grown.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  async commit(): Promise<void> {}

  async abort(): Promise<void> {
    this.#length = 0;
  }

  /** What was written so far: a view, good until the next write. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
}

/** `view`'s bytes, without a copy. */
export function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
