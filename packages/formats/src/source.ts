import { FormatError } from './error.ts';

/** Bytes that can be read at any place. Reads may run at the same time. */
export interface ByteSource {
  /** What error messages call it: a path, a URL, or a name the caller gave. */
  readonly name: string;
  /** Total bytes. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`. The result may alias the source's own memory: treat it as read-only.
   * Throws `FormatError` when the range is not inside the source.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Gives back what the source holds (a file handle). Reading afterwards is an error. */
  close?(): Promise<void>;
}

/** A source over bytes in memory. No copy is made. */
export function bytesSource(bytes: Uint8Array, name = 'bytes'): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.byteLength,
    async read(offset, length) {
      checkRange(source, offset, length);
      return bytes.subarray(offset, offset + length);
    },
  };
  return source;
}

/** A source over a `Blob` or a `File` from a file input; only the asked parts are read. */
export function blobSource(blob: Blob, name = 'name' in blob ? String(blob.name) : 'blob'): ByteSource {
  const source: ByteSource = {
    name,
    size: blob.size,
    async read(offset, length) {
      checkRange(source, offset, length);
      let buffer: ArrayBuffer;
      try {
        buffer = await blob.slice(offset, offset + length).arrayBuffer();
      } catch (cause) {
        throw new FormatError('blob', 'must be readable', {
          file: name,
          offset,
          facts: String(cause),
          hint: 'A file changed or removed after it was chosen cannot be read; choose it again.',
          cause,
        });
      }
      return new Uint8Array(buffer);
    },
  };
  return source;
}

/** Throws unless `offset` and `length` are a range inside the source. Sources call it before they allocate. */
export function checkRange(source: Pick<ByteSource, 'name' | 'size'>, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (whole && offset + length <= source.size) return;
  throw new FormatError('read', 'must lie inside the source', {
    file: source.name,
    offset: whole ? Math.min(offset, source.size) : undefined,
    facts: `asked for ${length} bytes at ${offset} of ${source.size}`,
  });
}

/**
 * A range of a source in chunks of at most `chunkBytes`, each a multiple of `unit` bytes (a chunk is at least one unit;
 * `length` must be a multiple of it).
 */
export async function* streamRange(
  source: ByteSource,
  offset: number,
  length: number,
  chunkBytes: number,
  unit: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1) {
    throw new FormatError('stream', 'chunk size must be a positive whole number of bytes', {
      file: source.name,
      facts: `got ${chunkBytes}`,
    });
  }
  const step = Math.max(unit, chunkBytes - (chunkBytes % unit));
  for (let at = 0; at < length; at += step) {
    yield await source.read(offset + at, Math.min(step, length - at));
  }
}

/** `bytes` itself where its address is a multiple of `unit`, else a copy, so that a typed array can lie over it. */
export function aligned(bytes: Uint8Array, unit: number): Uint8Array {
  return bytes.byteOffset % unit === 0 ? bytes : bytes.slice();
}

/** What `open` gives; when it throws, the source is closed first. */
export async function closeOnError<T>(source: ByteSource, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    await source.close?.();
    throw error;
  }
}
