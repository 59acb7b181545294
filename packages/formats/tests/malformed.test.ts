/**
 * Damaged files end in a `FormatError` or in a correct parse: no other error, no hang, no allocation that the file's true size does not
 * account for. 2,000 cases a format; with LOWRANK_NIGHTLY=1 100,000, from a new seed each night (fast-check prints it on a failure).
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { modelsDir, need } from '../../../scripts/testing/shared.ts';
import {
  type ByteSource,
  bytesSource,
  FormatError,
  f16ToF32,
  GgufWriter,
  isDequantizable,
  MemorySink,
  openCheckpoint,
  openGguf,
  openSafetensors,
  saveCheckpoint,
} from '../src/index.ts';
import { edits, mutate } from './mutate.ts';
import { countingSource, fixture } from './support.ts';

const nightly = process.env.LOWRANK_NIGHTLY === '1';
const runs = (normal: number, night: number) => (nightly ? { numRuns: night } : { numRuns: normal, seed: 20240605 });
const timeout = nightly ? 3_600_000 : 120_000;

/** Largest typed array made since the last reset, in bytes. */
let largestAllocation = 0;

beforeEach(() => {
  f16ToF32(new Uint16Array(1)); // makes its table, once for all
  for (const name of ['Uint8Array', 'Uint32Array', 'Float32Array'] as const) {
    const Original = globalThis[name];
    const watch: ProxyHandler<typeof Original> = {
      construct(target, args, newTarget) {
        if (typeof args[0] === 'number')
          largestAllocation = Math.max(largestAllocation, args[0] * target.BYTES_PER_ELEMENT);
        return Reflect.construct(target, args, newTarget);
      },
    };
    vi.stubGlobal(name, new Proxy(Original, watch));
  }
});
afterEach(() => vi.unstubAllGlobals());

/** How often files were refused and parsed, so that a test of one outcome only is noticed. */
class Tally {
  refused = 0;
  parsed = 0;

  /** Both outcomes were seen at least `least` times. */
  expectBoth(least: number): void {
    expect(this.refused).toBeGreaterThan(least);
    expect(this.parsed).toBeGreaterThan(least);
  }

  /** Runs `parse`; anything but success or a well-made `FormatError` about `source` fails. */
  async run(source: ByteSource, parse: () => Promise<void>): Promise<void> {
    largestAllocation = 0;
    try {
      await parse();
      this.parsed++;
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.refused++;
      expect(error.file).toBe(source.name);
      expect(error.reason.length).toBeGreaterThan(0);
      expect(error.message.length).toBeLessThan(2000);
      if (error.offset !== undefined) expect(error.offset >= 0 && error.offset <= source.size).toBe(true);
    }
    // Sixteen times: Q2_K is 84 bytes for 1,024 of f32.
    expect(largestAllocation).toBeLessThanOrEqual(source.size * 16 + 1024);
  }
}

/** A view of the tensors that `JSON.parse` gives of the same header. */
function plainHeader(bytes: Uint8Array) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const entries = Object.entries(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))));
  const tensors = entries.filter(([name]) => name !== '__metadata__') as [
    string,
    { dtype: string; shape: number[]; data_offsets: number[] },
  ][];
  return new Map(
    tensors.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [name, { name, dtype, shape, byteOffset: 8 + length + begin!, byteLength: end! - begin! }],
    ),
  );
}

async function checkSafetensors(tally: Tally, bytes: Uint8Array): Promise<void> {
  const source = countingSource(bytes, 'mutated.safetensors');
  await tally.run(source, async () => {
    const file = await openSafetensors(source);
    expect(source.reads).toHaveLength(2);
    expect(new Map(file.tensors)).toEqual(plainHeader(bytes));
    let data = 0;
    for (const name of file.tensors.keys()) data += (await file.read(name)).length;
    const header = source.reads[1]![1];
    expect(8 + header + data).toBe(bytes.length);
  });
}

/** Sets the header length to what it was in `base`, plus what the edits added to the file. */
function mendLength(bytes: Uint8Array, base: Uint8Array): void {
  const length = new DataView(base.buffer).getBigUint64(0, true) + BigInt(bytes.length - base.length);
  if (bytes.length >= 8 && length >= 0n) new DataView(bytes.buffer).setBigUint64(0, length, true);
}

/**
 * Offsets of 64-bit numbers in a sound GGUF file: the two counts, and for each text its own length and what may be a length after it
 * (a string's behind its type, an array's count behind its two types).
 */
function lengthFields(bytes: Uint8Array, texts: readonly string[]): number[] {
  const buffer = Buffer.from(bytes);
  const fields = texts.flatMap((text) => {
    const at = buffer.indexOf(text);
    const end = at + Buffer.byteLength(text);
    return at < 8 ? [] : [at - 8, end + 4, end + 8];
  });
  return [8, 16, ...fields];
}

async function checkGguf(tally: Tally, bytes: Uint8Array): Promise<void> {
  const source = countingSource(bytes, 'mutated.gguf');
  await tally.run(source, async () => {
    const file = await openGguf(source);
    expect(source.reads.reduce((total, [, length]) => total + length, 0)).toBeLessThanOrEqual(bytes.length);
    for (const { name, type, elements, byteOffset, byteLength } of file.tensors.values()) {
      expect(byteOffset + byteLength).toBeLessThanOrEqual(bytes.length);
      if (isDequantizable(type)) expect(await file.readF32(name)).toHaveLength(elements);
      else expect(await file.read(name)).toHaveLength(byteLength);
    }
    await checkRewritten(file, bytes);
  });
}

/** What was understood, written again, must be the header that was read. */
async function checkRewritten(file: Awaited<ReturnType<typeof openGguf>>, bytes: Uint8Array): Promise<void> {
  const sink = new MemorySink();
  let writer: GgufWriter;
  try {
    writer = new GgufWriter(sink, file.tensors.values(), file.metadata);
  } catch (error) {
    // The writer is stricter in these four things than a reader may be.
    expect(String(error)).toMatch(
      /keys must have 1 to|names must be unique and at most 63|at least 8|must fit their types.*NaN/,
    );
    return;
  }
  const first = writer.tensors[0];
  if (first === undefined) await writer.finish();
  else {
    await writer.write(first.name, await file.read(first.name)).catch((error: Error) => {
      // Leading tensors without bytes are passed over.
      if (first.byteLength > 0) throw error;
    });
    expect(first.byteOffset).toBe(file.tensors.values().next().value!.byteOffset);
  }
  const hasNaN = [...file.metadata.values()].some(({ value }) => Number.isNaN(value));
  const header = sink.bytes.slice(0, first?.byteOffset ?? Math.min(sink.bytes.length, bytes.length));
  const want = bytes.slice(0, header.length);
  // Version 2 is written as 3, padding as zeros, and the payload of a NaN is free.
  want[4] = 3;
  const end = Math.max(0, header.length - 64);
  if (!hasNaN) expect(Buffer.from(header.subarray(0, end)).equals(want.subarray(0, end))).toBe(true);
}

describe('damaged safetensors', () => {
  test('small files of the reference library', { timeout }, async () => {
    const base = fixture('small.safetensors');
    const header = (8 + Number(new DataView(base.buffer).getBigUint64(0, true))) / base.length;
    const tally = new Tally();
    await fc.assert(
      fc.asyncProperty(edits(header), fc.boolean(), async (list, mend) => {
        const bytes = mutate(base, list, [0]);
        // Half of the time the header's length is made right again, so that the edits reach what lies behind that check.
        if (mend) mendLength(bytes, base);
        await checkSafetensors(tally, bytes);
      }),
      runs(2000, 100_000),
    );
    tally.expectBoth(50);
  });

  test('the header of SmolLM2-135M over data of zeros', { timeout }, async (context) => {
    const path = join(need(context, modelsDir()), 'SmolLM2-135M-Instruct', 'model.safetensors');
    const head = headOf(path, 40_000);
    const base = head.slice(0, 8 + Number(new DataView(head.buffer).getBigUint64(0, true)));
    const dataBytes = statSync(path).size - base.length;
    const tally = new Tally();
    await fc.assert(
      fc.asyncProperty(edits(1), fc.boolean(), async (list, mend) => {
        const bytes = mutate(base, list, [0]);
        if (mend) mendLength(bytes, base);
        const source = paddedSource(bytes, dataBytes, 'mutated.safetensors');
        await tally.run(source, async () => {
          const { tensors } = await openSafetensors(source);
          const last = [...tensors.values()].at(-1)!;
          expect(last.byteOffset + last.byteLength).toBe(source.size);
        });
      }),
      runs(300, 20_000),
    );
    tally.expectBoth(10);
  });
});

describe('damaged shard indices', () => {
  test('an index over sound shards', { timeout }, async () => {
    const file = await openSafetensors(bytesSource(fixture('small.safetensors')));
    const sinks = new Map<string, MemorySink>();
    const open = async (name: string) => sinks.set(name, new MemorySink()).get(name)!;
    await saveCheckpoint(open, file.tensors.values(), ({ name }) => file.read(name), { maxShardBytes: 100 });
    const index = 'model.safetensors.index.json';
    const base = sinks.get(index)!.bytes.slice();
    const tally = new Tally();
    await fc.assert(
      fc.asyncProperty(edits(1), async (list) => {
        const source = bytesSource(mutate(base, list, [0]), index);
        await tally.run(source, async () => {
          const resolve = async (name: string) => {
            if (name === index) return source;
            const sink = sinks.get(name);
            return sink === undefined ? undefined : bytesSource(sink.bytes, index);
          };
          const checkpoint = await openCheckpoint(resolve);
          const text = new TextDecoder().decode(await source.read(0, source.size));
          expect(Object.fromEntries(checkpoint.files)).toEqual(JSON.parse(text).weight_map);
          // A missing shard or tensor is blamed on the index or the shard, which the resolver both calls by the index's name.
          await checkpoint.tensors().catch((error: FormatError) => {
            if (error.file === index) throw error;
            expect(sinks.has(error.file)).toBe(true);
          });
        });
      }),
      runs(2000, 100_000),
    );
    tally.expectBoth(50);
  });
});

describe('damaged GGUF', () => {
  test('small files of the reference library', { timeout }, async () => {
    const base = fixture('small.gguf');
    const file = await openGguf(bytesSource(base));
    const header = file.tensors.values().next().value!.byteOffset / base.length;
    const lengths = lengthFields(base, [...file.metadata.keys(), ...file.tensors.keys(), '<0>', '<100>']);
    const tally = new Tally();
    await fc.assert(
      fc.asyncProperty(edits(header), async (list) => checkGguf(tally, mutate(base, list, lengths))),
      runs(2000, 100_000),
    );
    tally.expectBoth(50);
  });

  test('the header of SmolLM2-135M over data of zeros', { timeout }, async (context) => {
    const path = join(need(context, modelsDir()), 'SmolLM2-135M-Instruct.Q4_1.gguf');
    const head = headOf(path, 4 << 20);
    const sound = await openGguf(paddedSource(head, statSync(path).size - head.length, 'sound'));
    const first = sound.tensors.values().next().value!.byteOffset;
    const base = head.slice(0, first);
    const lengths = lengthFields(base, [...sound.metadata.keys(), ...sound.tensors.keys()]);
    const dataBytes = statSync(path).size - first;
    const tally = new Tally();
    await fc.assert(
      fc.asyncProperty(edits(1), async (list) => {
        const source = paddedSource(mutate(base, list, lengths), dataBytes, 'mutated.gguf');
        await tally.run(source, async () => {
          const { tensors } = await openGguf(source);
          for (const { byteOffset, byteLength } of tensors.values())
            expect(byteOffset + byteLength).toBeLessThanOrEqual(source.size);
        });
      }),
      runs(200, 3000),
    );
    tally.expectBoth(5);
  });
});

/** The first bytes of a file. */
function headOf(path: string, length: number): Uint8Array {
  const bytes = Buffer.alloc(length);
  const file = openSync(path, 'r');
  const read = readSync(file, bytes, 0, length, 0);
  closeSync(file);
  return Uint8Array.from(bytes.subarray(0, read));
}

/** `head` and then zeros, which take no memory. */
function paddedSource(head: Uint8Array, zeros: number, name: string): ByteSource {
  return {
    name,
    size: head.length + zeros,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      bytes.set(head.subarray(offset, offset + length));
      return bytes;
    },
  };
}
