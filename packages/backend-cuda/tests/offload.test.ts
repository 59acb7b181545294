import type { Backend, DeviceBuffer, Offloaded } from '@lowrank/kernels';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { available, cudaBackend } from '../src/index.ts';
import { emulate } from './support/emulated.ts';

// Where a GPU is, it is tested; elsewhere the driver without a GPU.
if (process.env.LOWRANK_CUDA_EMULATE === '1' || !available().ok) emulate();

let backend: Backend;
beforeEach(async () => {
  backend = await cudaBackend();
});
afterEach(() => backend.close());

/** Bytes that differ by place and by `from`; a period of 251 falls out of step with every power of two. */
function pattern(n: number, from: number): Uint8Array {
  const bytes = new Uint8Array(n);
  for (let i = 0; i < Math.min(n, 251); i++) bytes[i] = i * 37 + from;
  for (let at = 251; at < n; at *= 2) bytes.copyWithin(at, 0, at);
  return bytes;
}
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const zeros = (buffer: DeviceBuffer, n: number) =>
  backend.primitives.fill({
    inputs: {},
    outputs: { y: { buffer, byteOffset: 0, dtype: 'u8', shape: [n], strides: [1] } },
    attrs: { shape: [n], dtype: 'u8', value: 0 },
  });

/** A copy to the host that is waited for at once, and one back. */
function store(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Offloaded {
  const offload = backend.memory.offload!;
  const entry = offload.store(buffer, byteOffset, byteLength);
  offload.stored(entry);
  return entry;
}
function fetch(entry: Offloaded, buffer: DeviceBuffer, byteOffset: number): void {
  backend.memory.offload!.fetch(entry, buffer, byteOffset);
  backend.memory.offload!.fetched(entry);
}

describe('offload', () => {
  // The last three leave a rest where two, five or eight threads copy whole pages each.
  test.each([[0], [1], [1000], [65536], [65537], [(4 << 20) + 1], [(10 << 20) + 4], [(16 << 20) + 3]])(
    '%i bytes come back, also after others took their place',
    async (n) => {
      const { memory } = backend;
      const offload = memory.offload!;
      const [a, b] = [memory.allocate(n + 256), memory.allocate(n + 256)];
      memory.write(a, 256, pattern(n, 1));
      const first = store(a, 256, n);
      memory.write(a, 256, pattern(n, 2));
      const second = store(a, 256, n);
      expect(offload.hostBytes()).toBeGreaterThanOrEqual(2 * n);
      zeros(a, n + 256);
      fetch(second, b, 256);
      expect(same(await memory.read(b, 256, n), pattern(n, 2))).toBe(true);
      offload.release(second);
      fetch(first, a, 256);
      expect(same(await memory.read(a, 256, n), pattern(n, 1))).toBe(true);
      fetch(first, b, 256);
      expect(same(await memory.read(b, 256, n), pattern(n, 1))).toBe(true);
      offload.release(first);
      const held = offload.hostBytes();
      offload.release(store(a, 256, n));
      expect(offload.hostBytes()).toBe(held);
    },
  );

  test('any order of stores and fetches gives what was stored', async () => {
    const { memory } = backend;
    const offload = memory.offload!;
    const n = 100_000;
    const work = memory.allocate(n);
    const alive: { value: number; stored: ReturnType<typeof offload.store> }[] = [];
    let state = 7;
    const next = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % limit;
    };
    for (let i = 0; i < 200; i++) {
      if (alive.length === 0 || next(2) === 0) {
        memory.write(work, 0, pattern(n, i));
        alive.push({ value: i, stored: store(work, 0, n) });
        zeros(work, n);
        continue;
      }
      const [{ value, stored }] = alive.splice(next(3) === 0 ? next(alive.length) : alive.length - 1, 1) as [
        (typeof alive)[0],
      ];
      fetch(stored, work, 0);
      expect(same(await memory.read(work, 0, n), pattern(n, value))).toBe(true);
      offload.release(stored);
    }
    for (const { stored } of alive) offload.release(stored);
  });

  test('a recording stores and fetches again at each replay, in host memory of its own', async () => {
    const { memory } = backend;
    const offload = memory.offload!;
    const n = 5000;
    const [x, y] = [memory.allocate(n), memory.allocate(n)];
    // Something stored before stays what it was while replays store again.
    memory.write(x, 0, pattern(n, 99));
    const outside = store(x, 0, n);
    const recorder = backend.record!;
    recorder.begin();
    const stored = [0, 1, 2].map(() => {
      const entry = store(x, 0, n);
      backend.primitives.binary({
        inputs: { a: view(x, n), b: view(x, n) },
        outputs: { y: view(x, n) },
        attrs: { op: 'add' },
      });
      return entry;
    });
    zeros(y, n);
    for (const entry of stored.reverse()) {
      backend.primitives.binary({
        inputs: { a: view(y, n), b: view(y, n) },
        outputs: { y: view(y, n) },
        attrs: { op: 'add' },
      });
      fetch(entry, x, 0);
      backend.primitives.binary({
        inputs: { a: view(x, n), b: view(y, n) },
        outputs: { y: view(y, n) },
        attrs: { op: 'add' },
      });
      offload.release(entry);
    }
    const replay = recorder.end();
    const between = store(x, 0, n);
    for (const start of [1, 50]) {
      memory.write(x, 0, pattern(n, start));
      replay.replay();
      // x, 2x and 4x come back last first: ((4x · 2) + 2x) · 2 + x, in u32 words.
      const words = new Uint32Array(pattern(n, start).buffer).map((v) => Math.imul(v, 21));
      expect(new Uint32Array((await memory.read(y, 0, n)).slice().buffer)).toEqual(words);
    }
    fetch(outside, x, 0);
    expect(same(await memory.read(x, 0, n), pattern(n, 99))).toBe(true);
    for (const entry of [outside, between]) offload.release(entry);
    replay.release();
  });

  test('many copies under way at once, out and back, and what is recorded waits for none of before', async () => {
    const { memory } = backend;
    const offload = memory.offload!;
    const n = 70_000;
    const buffers = [0, 1, 2, 3, 4].map((i) => {
      const buffer = memory.allocate(n);
      memory.write(buffer, 0, pattern(n, i));
      return buffer;
    });
    const entries = buffers.map((buffer) => offload.store(buffer, 0, n));
    for (const entry of entries.toReversed()) offload.stored(entry);
    for (const buffer of buffers) zeros(buffer, n);
    for (const [i, entry] of entries.entries()) offload.fetch(entry, buffers[4 - i]!, 0);
    backend.record!.begin();
    for (const entry of entries) offload.fetched(entry);
    zeros(buffers[0]!, n);
    const replay = backend.record!.end();
    for (let i = 0; i < 5; i++) expect(same(await memory.read(buffers[4 - i]!, 0, n), pattern(n, i))).toBe(true);
    replay.replay();
    expect(same(await memory.read(buffers[0]!, 0, n), new Uint8Array(n))).toBe(true);
    replay.release();
    for (const entry of entries) offload.release(entry);
  });

  test('a recording that is dropped leaves it usable', async () => {
    const { memory } = backend;
    const offload = memory.offload!;
    const x = memory.allocate(100);
    memory.write(x, 0, pattern(100, 3));
    backend.record!.begin();
    const lost = offload.store(x, 0, 100);
    backend.record!.abort();
    offload.release(lost);
    const kept = store(x, 0, 100);
    zeros(x, 100);
    fetch(kept, x, 0);
    expect(same(await memory.read(x, 0, 100), pattern(100, 3))).toBe(true);
    offload.release(kept);
  });
});

function view(buffer: DeviceBuffer, bytes: number) {
  return { buffer, byteOffset: 0, dtype: 'u32' as const, shape: [bytes / 4], strides: [1] };
}
