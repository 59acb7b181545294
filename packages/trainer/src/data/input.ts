import { LowrankError } from '@lowrank/tensor';

/** Bytes that can be read at any place: the `ByteSource` of `@lowrank/formats` fits. */
export interface RandomAccess {
  readonly name?: string;
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Where data come from. A string is the text itself, never a path (paths: `@lowrank/trainer/node`). */
export type DataInput =
  | string
  | Uint8Array
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | string>
  | RandomAccess;

/** One record of a file, and what error messages call its place. */
export interface SourceRecord {
  readonly value: Readonly<Record<string, unknown>>;
  /** `line 17 of train.jsonl`, `record 3`. */
  readonly where: string;
}

export interface ReadOptions {
  /** What error messages call the input; the input's own name by default. */
  readonly name?: string;
}

const chunkBytes = 1 << 20;

/** `train.jsonl`, or '' where nothing is known. */
export function inputName(input: DataInput, options: ReadOptions = {}): string {
  if (options.name !== undefined) return options.name;
  return typeof input === 'object' && 'name' in input && typeof input.name === 'string' ? input.name : '';
}

/** `line 3`, or `line 3 of train.jsonl`. */
export function place(unit: string, number: number, name: string): string {
  return `${unit} ${number}${name ? ` of ${name}` : ''}`;
}

async function* fromStream(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}

async function* pieces(input: DataInput): AsyncGenerator<Uint8Array | string> {
  if (typeof input === 'string' || input instanceof Uint8Array) yield input;
  else if (input instanceof Blob) {
    for (let at = 0; at < input.size; at += chunkBytes)
      yield new Uint8Array(await input.slice(at, at + chunkBytes).arrayBuffer());
  } else if ('getReader' in input) yield* fromStream(input);
  else if (Symbol.asyncIterator in input) yield* input;
  else if ('read' in input)
    for (let at = 0; at < input.size; at += chunkBytes)
      yield await input.read(at, Math.min(chunkBytes, input.size - at));
}

/** The text of an input, piece by piece; a byte order mark is dropped. Throws where the bytes are not UTF-8. */
async function* textPieces(input: DataInput, name = inputName(input)): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decode = (bytes?: Uint8Array) => {
    try {
      return bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw new LowrankError('data', 'not UTF-8 text', name, 'Convert the file to UTF-8', { cause });
    }
  };
  let first = true;
  for await (const piece of pieces(input)) {
    let text = typeof piece === 'string' ? piece : decode(piece);
    if (first && text) {
      first = false;
      if (text.startsWith('\ufeff')) text = text.slice(1);
    }
    if (text) yield text;
  }
  const rest = decode();
  if (rest) yield rest;
}

/** The whole text of an input. */
export async function wholeText(input: DataInput, name?: string): Promise<string> {
  const parts: string[] = [];
  for await (const piece of textPieces(input, name)) parts.push(piece);
  return parts.join('');
}

/** Lines without their ends (\n or \r\n), numbered from 1. */
export async function* numberedLines(
  input: DataInput,
  name?: string,
): AsyncGenerator<{ readonly text: string; readonly number: number }> {
  let held: string[] = [];
  let number = 0;
  const line = (text: string) => ({ text: text.endsWith('\r') ? text.slice(0, -1) : text, number: ++number });
  for await (const piece of textPieces(input, name)) {
    const parts = piece.split('\n');
    held.push(parts[0]!);
    for (const part of parts.slice(1)) {
      yield line(held.join(''));
      held = [part];
    }
  }
  const last = held.join('');
  if (last) yield line(last);
}

/** A record, or the error that it is not an object. */
export function asRecord(value: unknown, where: string): SourceRecord {
  if (value !== null && typeof value === 'object' && !Array.isArray(value))
    return { value: value as Record<string, unknown>, where };
  const found = Array.isArray(value) ? 'an array' : value === null ? 'null' : `a ${typeof value}`;
  throw new LowrankError('data', 'a record must be an object', `${where} is ${found}`);
}
