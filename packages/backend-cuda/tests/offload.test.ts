import type { Backend, DeviceBuffer } from '@lowrank/kernels';
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

describe('offload', () => {
  // Sizes below, at and above a slot (16 MiB) and above all of them.
  test.each([[0], [1], [1000], [16 << 20], [(16 << 20) + 3], [(70 << 20) + 5]])(
    '%i bytes come back, also after others took their place',
    async (n) => {
      const { memory } = backend;
      const offload = memory.offload!;
      const [a, b] = [memory.allocate(n + 256), memory.allocate(n + 256)];
      memory.write(a, 256, pattern(n, 1));
      const first = offload.store(a, 256, n);
      memory.write(a, 256, pattern(n, 2));
      const second = offload.store(a, 256, n);
      expect(offload.hostBytes()).toBeGreaterThanOrEqual(2 * n);
      zeros(a, n + 256);
      offload.fetch(second, b, 256);
      expect(same(await memory.read(b, 256, n), pattern(n, 2))).toBe(true);
      offload.release(second);
      offload.fetch(first, a, 256);
      expect(same(await memory.read(a, 256, n), pattern(n, 1))).toBe(true);
      offload.fetch(first, b, 256);
      expect(same(await memory.read(b, 256, n), pattern(n, 1))).toBe(true);
      offload.release(first);
      const held = offload.hostBytes();
      offload.release(offload.store(a, 256, n));
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
        alive.push({ value: i, stored: offload.store(work, 0, n) });
        zeros(work, n);
        continue;
      }
      const [{ value, stored }] = alive.splice(next(3) === 0 ? next(alive.length) : alive.length - 1, 1) as [
        (typeof alive)[0],
      ];
      offload.fetch(stored, work, 0);
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
    const outside = offload.store(x, 0, n);
    const recorder = backend.record!;
    recorder.begin();
    const stored = [0, 1, 2].map(() => {
      const entry = offload.store(x, 0, n);
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
      offload.fetch(entry, x, 0);
      backend.primitives.binary({
        inputs: { a: view(x, n), b: view(y, n) },
        outputs: { y: view(y, n) },
        attrs: { op: 'add' },
      });
      offload.release(entry);
    }
    const replay = recorder.end();
    const between = offload.store(x, 0, n);
    for (const start of [1, 50]) {
      memory.write(x, 0, pattern(n, start));
      replay.replay();
      // x, 2x and 4x come back last first: ((4x · 2) + 2x) · 2 + x, in u32 words.
      const words = new Uint32Array(pattern(n, start).buffer).map((v) => Math.imul(v, 21));
      expect(new Uint32Array((await memory.read(y, 0, n)).slice().buffer)).toEqual(words);
    }
    offload.fetch(outside, x, 0);
    expect(same(await memory.read(x, 0, n), pattern(n, 99))).toBe(true);
    for (const entry of [outside, between]) offload.release(entry);
    replay.release();
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
    const kept = offload.store(x, 0, 100);
    zeros(x, 100);
    offload.fetch(kept, x, 0);
    expect(same(await memory.read(x, 0, 100), pattern(100, 3))).toBe(true);
    offload.release(kept);
  });
});

function view(buffer: DeviceBuffer, bytes: number) {
  return { buffer, byteOffset: 0, dtype: 'u32' as const, shape: [bytes / 4], strides: [1] };
}
