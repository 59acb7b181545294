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
  /** The same into memory of the caller's, all of `target`. Not every source can. */
  readInto?(offset: number, target: Uint8Array): Promise<void>;
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

/** Checks the size of chunks; gives it as a multiple of `unit` (at least one unit). */
function chunkStep(source: ByteSource, chunkBytes: number, unit: number): number {
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1) {
    throw new FormatError('stream', 'chunk size must be a positive whole number of bytes', {
      file: source.name,
      facts: `got ${chunkBytes}`,
    });
  }
  return Math.max(unit, chunkBytes - (chunkBytes % unit));
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
  const step = chunkStep(source, chunkBytes, unit);
  for (let at = 0; at < length; at += step) {
    yield await source.read(offset + at, Math.min(step, length - at));
  }
}

/** Reads under way while the caller works on a chunk: Node's pool has four threads. */
const readsAhead = 4;

/** Memory for chunks that are lent, kept between streams. */
export class ChunkMemory {
  readonly #spare: Uint8Array[] = [];

  take(byteLength: number): Uint8Array {
    const kept = this.#spare.pop();
    return kept && kept.byteLength >= byteLength ? kept : new Uint8Array(byteLength);
  }

  give(memory: Uint8Array): void {
    if (this.#spare.length <= readsAhead) this.#spare.push(memory);
  }
}

/**
 * The chunks of `streamRange`, lent: a chunk lasts until the next one is asked for, and those that follow are read meanwhile, several at a
 * time, into memory that is used again. Sources that cannot read into given memory are streamed plainly.
 */
export async function* lendRange(
  source: ByteSource,
  offset: number,
  length: number,
  chunkBytes: number,
  unit: number,
  memory: ChunkMemory,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!source.readInto) return yield* streamRange(source, offset, length, chunkBytes, unit);
  const step = chunkStep(source, chunkBytes, unit);
  checkRange(source, offset, length);
  const reads: { whole: Uint8Array; chunk: Uint8Array; done: Promise<unknown> }[] = [];
  let next = 0;
  const begin = () => {
    const whole = memory.take(step);
    const chunk = whole.subarray(0, Math.min(step, length - next));
    // A read that fails is thrown when its turn comes, not before.
    const done = source.readInto!(offset + next, chunk).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    reads.push({ whole, chunk, done });
    next += step;
  };
  try {
    while (reads.length > 0 || next < length) {
      while (next < length && reads.length < readsAhead) begin();
      const first = reads[0]!;
      const failed = (await first.done) as { error: unknown } | undefined;
      if (failed) throw failed.error;
      reads.shift();
      if (next < length) begin();
      try {
        yield first.chunk;
      } finally {
        memory.give(first.whole);
      }
    }
  } finally {
    // Whoever broke off leaves reads behind: their memory is free once they are done.
    for (const { done, whole } of reads) {
      await done;
      memory.give(whole);
    }
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
