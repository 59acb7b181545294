import { FormatError, quote } from './error.ts';

/** A JSON value with the byte offset at which it starts in its file. Objects are maps, in the file's order. */
export interface JsonNode {
  at: number;
  value: string | number | boolean | null | JsonNode[] | Map<string, JsonNode>;
}

/** What a text is and what it may hold. */
export interface JsonContext {
  /** Format named in errors. */
  format: string;
  file: string;
  /** Offset of the text's first byte in `file`. */
  base: number;
  /** Levels of arrays and objects at most. */
  maxDepth: number;
  /** Values at most, of all kinds and levels; it bounds the memory that a long text can take. */
  maxValues: number;
  /** Numbers may have neither fraction nor exponent. */
  integersOnly: boolean;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const INTEGER = /^-?(?:0|[1-9]\d*)$/;

/**
 * Reads a whole text of strict JSON (RFC 8259). Beyond `JSON.parse` it refuses duplicate keys, depth beyond a limit, bytes that are
 * not UTF-8 and lone surrogates, and every error carries its byte offset.
 */
export function parseJson(bytes: Uint8Array, context: JsonContext): JsonNode {
  return new JsonReader(bytes, context).document();
}

class JsonReader {
  readonly #bytes: Uint8Array;
  readonly #context: JsonContext;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #at = 0;
  #values = 0;

  constructor(bytes: Uint8Array, context: JsonContext) {
    this.#bytes = bytes;
    this.#context = context;
  }

  document(): JsonNode {
    const node = this.#value(0);
    this.#space();
    if (this.#at < this.#bytes.length) this.#fail('one JSON value must fill the text', `${this.#found()} follows it`);
    return node;
  }

  #value(depth: number): JsonNode {
    this.#space();
    if (++this.#values > this.#context.maxValues) {
      this.#fail('JSON must be of bounded size', `more than ${this.#context.maxValues} values`);
    }
    const at = this.#context.base + this.#at;
    const byte = this.#bytes[this.#at];
    if (byte === QUOTE) return { at, value: this.#string() };
    if (byte === 0x7b || byte === 0x5b) {
      if (depth >= this.#context.maxDepth) {
        this.#fail('JSON must not be nested too deep', `more than ${this.#context.maxDepth} levels`);
      }
      return { at, value: byte === 0x7b ? this.#object(depth + 1) : this.#array(depth + 1) };
    }
    if (byte === 0x2d || (byte !== undefined && byte >= 0x30 && byte <= 0x39)) return { at, value: this.#number() };
    if (this.#literal('true')) return { at, value: true };
    if (this.#literal('false')) return { at, value: false };
    if (this.#literal('null')) return { at, value: null };
    return this.#fail('must be JSON', `expected a value, found ${this.#found()}`);
  }

  #object(depth: number): Map<string, JsonNode> {
    const members = new Map<string, JsonNode>();
    this.#at++;
    if (this.#closes(0x7d)) return members;
    for (;;) {
      this.#space();
      const start = this.#at;
      if (this.#bytes[start] !== QUOTE) this.#fail('must be JSON', `expected a key, found ${this.#found()}`);
      const key = this.#string();
      if (members.has(key)) this.#fail('keys must be unique', `${quote(key)} appears twice`, start);
      this.#space();
      if (this.#bytes[this.#at] !== 0x3a) this.#fail('must be JSON', `expected ":", found ${this.#found()}`);
      this.#at++;
      members.set(key, this.#value(depth));
      if (this.#closes(0x7d)) return members;
      this.#comma();
    }
  }

  #array(depth: number): JsonNode[] {
    const items: JsonNode[] = [];
    this.#at++;
    if (this.#closes(0x5d)) return items;
    for (;;) {
      items.push(this.#value(depth));
      if (this.#closes(0x5d)) return items;
      this.#comma();
    }
  }

  #string(): string {
    const start = this.#at++;
    let escaped = false;
    for (; ; this.#at++) {
      const byte = this.#bytes[this.#at];
      if (byte === QUOTE) break;
      if (byte === undefined) this.#fail('strings must end', 'no closing quote before the end', start);
      if (byte < 0x20) this.#fail('strings must escape control characters', `byte 0x${byte.toString(16)}`);
      if (byte === BACKSLASH) {
        escaped = true;
        this.#at++;
      }
    }
    this.#at++;
    try {
      // Strings without escapes need no second look; the others are short work for the platform's own reader.
      const raw = this.#bytes.subarray(start, this.#at);
      if (!escaped) return this.#utf8.decode(raw.subarray(1, -1));
      const text = JSON.parse(this.#utf8.decode(raw)) as string;
      if (!/\p{Surrogate}/u.test(text)) return text;
    } catch (cause) {
      const rule = cause instanceof SyntaxError ? 'strings must use the escapes of JSON' : 'text must be UTF-8';
      this.#fail(rule, `in the string that starts here`, start, cause);
    }
    return this.#fail('text must be UTF-8', 'a lone surrogate in the string that starts here', start);
  }

  #number(): number {
    const start = this.#at;
    while (isNumberByte(this.#bytes[this.#at])) this.#at++;
    const token = String.fromCharCode(...this.#bytes.subarray(start, Math.min(this.#at, start + 64)));
    const grammar = this.#context.integersOnly ? INTEGER : NUMBER;
    if (this.#at - start > 64 || !grammar.test(token)) {
      this.#fail(
        this.#context.integersOnly ? 'numbers must be whole' : 'must be JSON',
        `the number ${quote(token)}`,
        start,
      );
    }
    return Number(token);
  }

  #literal(word: string): boolean {
    for (let i = 0; i < word.length; i++) if (this.#bytes[this.#at + i] !== word.charCodeAt(i)) return false;
    this.#at += word.length;
    return true;
  }

  /** Steps over `bracket` if it comes next. */
  #closes(bracket: number): boolean {
    this.#space();
    if (this.#bytes[this.#at] !== bracket) return false;
    this.#at++;
    return true;
  }

  #comma(): void {
    if (this.#bytes[this.#at] !== 0x2c)
      this.#fail('must be JSON', `expected "," or a closing bracket, found ${this.#found()}`);
    this.#at++;
  }

  #space(): void {
    for (; ; this.#at++) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    }
  }

  #found(): string {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) return 'the end';
    return byte > 0x20 && byte < 0x7f ? `"${String.fromCharCode(byte)}"` : `byte 0x${byte.toString(16)}`;
  }

  #fail(rule: string, facts: string, at = this.#at, cause?: unknown): never {
    const { format, file, base } = this.#context;
    throw new FormatError(format, rule, { file, offset: base + Math.min(at, this.#bytes.length), facts, cause });
  }
}

function isNumberByte(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  return (
    (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x2b || byte === 0x2e || byte === 0x65 || byte === 0x45
  );
}
