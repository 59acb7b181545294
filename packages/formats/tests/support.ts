import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'vitest';
import { type ByteSource, bytesSource, FormatError } from '../src/index.ts';

const fixtures = resolve(import.meta.dirname, '../../../fixtures/formats');

/** A recorded file of `fixtures/formats`, in memory of its own. */
export function fixture(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(fixtures, name)));
}

export function jsonFixture<T>(name: string): T {
  return JSON.parse(readFileSync(join(fixtures, name), 'utf8')) as T;
}

/** SHA-256 in hex of a view's bytes. */
export function sha256(view: ArrayBufferView): string {
  return createHash('sha256')
    .update(new Uint8Array(view.buffer, view.byteOffset, view.byteLength))
    .digest('hex');
}

/** A folder that is gone at the end of the `using` scope. */
export function temporaryFolder(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'formats-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A source that remembers what was read of it. */
export function countingSource(
  bytes: Uint8Array,
  name = 'counted',
): ByteSource & { reads: [number, number][]; closed: number } {
  const inner = bytesSource(bytes, name);
  const reads: [number, number][] = [];
  const source = {
    name,
    size: bytes.byteLength,
    reads,
    closed: 0,
    async read(offset: number, length: number) {
      reads.push([offset, length]);
      return inner.read(offset, length);
    },
    async close() {
      source.closed++;
    },
  };
  return source;
}

/** The `FormatError` that `run` ends with; anything else fails the test. */
export async function formatError(run: (() => unknown) | Promise<unknown>): Promise<FormatError> {
  try {
    await (typeof run === 'function' ? run() : run);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    return error as FormatError;
  }
  return expect.unreachable('nothing was thrown');
}

/** All of an async iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A safetensors file around a header text. */
export function safetensorsBytes(json: string | Uint8Array, dataBytes: number): Uint8Array {
  const header = typeof json === 'string' ? new TextEncoder().encode(json) : json;
  const bytes = new Uint8Array(8 + header.byteLength + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.byteLength), true);
  bytes.set(header, 8);
  return bytes;
}
