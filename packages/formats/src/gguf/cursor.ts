import { FormatError } from '../error.ts';
import type { ByteSource } from '../source.ts';

const firstWindowBytes = 64 << 10;
const lastWindowBytes = 8 << 20;

/**
 * Walks through the header of a source front to back by windows that double in size; no byte is read twice. Lengths are held against the
 * bytes left before anything is allocated. The synchronous readers need `await fill(n)` first, unless `has(n)`.
 */
export class Cursor {
  readonly file: string;
  readonly #source: ByteSource;
  readonly #end: number;
  #window = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  /** Offset of the window in the file, and of the next byte in the window. */
  #start = 0;
  #at = 0;
  #nextWindow = firstWindowBytes;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  /** Reads `source` up to `limit` bytes: headers beyond it are refused. */
  constructor(source: ByteSource, limit: number) {
    this.file = source.name;
    this.#source = source;
    this.#end = Math.min(source.size, limit);
  }

  /** Offset of the next byte in the file. */
  get position(): number {
    return this.#start + this.#at;
  }

  /** Bytes that may still be read. */
  get remaining(): number {
    return this.#end - this.position;
  }

  /** Whether `n` bytes lie ready. */
  has(n: number): boolean {
    return this.#at + n <= this.#window.byteLength;
  }

  /** Makes `n` bytes ready. Throws `FormatError` when the file has no more. */
  async fill(n: number, what: string): Promise<void> {
    if (this.has(n)) return;
    this.#need(n, what);
    const rest = this.#window.subarray(this.#at);
    const start = this.position;
    const length = Math.min(Math.max(n, this.#nextWindow), this.remaining);
    this.#nextWindow = Math.min(this.#nextWindow * 2, lastWindowBytes);
    this.#window = await this.#joined(rest, start, length);
    this.#view = new DataView(this.#window.buffer, this.#window.byteOffset, this.#window.byteLength);
    this.#start = start;
    this.#at = 0;
  }

  /** The next `n` bytes as a copy of its own, at the start of its buffer. Long ones pass by the window. */
  async take(n: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    this.#need(n, what);
    const rest = this.#window.subarray(this.#at, this.#at + n);
    const start = this.position;
    if (n > this.#nextWindow && !this.has(n)) {
      const bytes = await this.#joined(rest, start, n);
      this.#window = new Uint8Array(0);
      this.#start = start + n;
      this.#at = 0;
      return bytes;
    }
    await this.fill(n, what);
    const bytes = this.#window.slice(this.#at, this.#at + n);
    this.#at += n;
    return bytes;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  /** An unsigned 64-bit integer; above 2⁵³ it is no longer exact, which is beyond every count or offset that can be right. */
  u64(): number {
    const at = this.#advance(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  /** A string: 64-bit length, then UTF-8. `what` is named in errors, with the offset of the length. */
  async string(what: string, maxBytes = Number.POSITIVE_INFINITY): Promise<string> {
    const at = this.position;
    if (!this.has(8)) await this.fill(8, what);
    const length = this.u64();
    if (length > maxBytes)
      this.fail(at, 'lengths must be in bounds', `${what} has ${length} bytes, at most ${maxBytes} are allowed`);
    if (length > this.remaining) this.#tooLong(at, `${what} of ${length} bytes`);
    if (!this.has(length)) await this.fill(length, what);
    const from = this.#advance(length);
    try {
      return this.#utf8.decode(this.#window.subarray(from, from + length));
    } catch (cause) {
      return this.fail(at, 'strings must be UTF-8', `${what} is not`, cause);
    }
  }

  /** A 64-bit count of things that take at least `leastBytes` each; refused above `most` or when the file cannot hold so many. */
  async count(what: string, leastBytes: number, most = Number.POSITIVE_INFINITY): Promise<number> {
    const at = this.position;
    await this.fill(8, what);
    const count = this.u64();
    if (count * leastBytes > this.remaining) this.#tooLong(at, `${count} ${what} of at least ${leastBytes} bytes each`);
    if (count > most) this.fail(at, 'counts must be in bounds', `${count} ${what}, at most ${most} are allowed`);
    return count;
  }

  /** Throws `FormatError` for the byte at `offset`. */
  fail(offset: number, rule: string, facts: string, cause?: unknown): never {
    throw new FormatError('gguf', rule, { file: this.file, offset, facts, cause });
  }

  #advance(n: number): number {
    const at = this.#at;
    this.#at += n;
    return at;
  }

  #need(n: number, what: string): void {
    if (n > this.remaining) this.#tooLong(this.position, `${what} of ${n} bytes`);
  }

  #tooLong(offset: number, facts: string): never {
    const cut = this.#end === this.#source.size;
    throw new FormatError('gguf', cut ? 'the header must lie inside the file' : 'the header must be within the limit', {
      file: this.file,
      offset: Math.min(offset, this.#source.size),
      facts: `${facts}, ${this.remaining} bytes are left`,
      hint: cut
        ? 'The file is cut short or damaged; copy or download it again.'
        : 'Raise maxHeaderBytes if you trust the file.',
    });
  }

  /** `rest`, which lies at `start` in the file, and what follows it, `length` bytes in all. */
  async #joined(rest: Uint8Array, start: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const joined = new Uint8Array(length);
    joined.set(rest);
    joined.set(await this.#source.read(start + rest.byteLength, length - rest.byteLength), rest.byteLength);
    return joined;
  }
}
