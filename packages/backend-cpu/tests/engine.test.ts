import { bytesOf, contiguousStrides, type DType, LowrankError, specOf, type View } from '@lowrank/kernels';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { cpuBackend } from '../src/index.ts';
import { Engine } from '../src/runtime/engine.ts';
import { createMemory, Heap } from '../src/runtime/heap.ts';

afterEach(() => vi.unstubAllGlobals());

describe('heap', () => {
  const heap = () => {
    const { memory, maximumBytes } = createMemory(false);
    return new Heap(memory, maximumBytes, 4096);
  };

  test('hands out aligned, separate pieces and joins what is given back', () => {
    const h = heap();
    const pieces = [1, 64, 1000, 70_000, 0].map((n) => h.allocate(n));
    for (const p of pieces) expect(p.pointer % 64).toBe(0);
    const sorted = [...pieces].sort((a, b) => a.pointer - b.pointer);
    for (let i = 1; i < sorted.length; i++) {
      expect(sorted[i]!.pointer).toBeGreaterThanOrEqual(sorted[i - 1]!.pointer + sorted[i - 1]!.byteLength);
    }
    const first = pieces[0]!.pointer;
    for (const p of [2, 0, 4, 1, 3].map((i) => pieces[i]!)) h.release(p);
    expect(h.reservedBytes).toBe(0);
    expect(h.allocate(100_000).pointer).toBe(first);
  });

  test('memory that is free again is used before the memory grows', () => {
    const h = heap();
    const a = h.allocate(1 << 20);
    const b = h.allocate(1 << 20);
    const size = h.memory.buffer.byteLength;
    h.release(a);
    const c = h.allocate(1 << 19);
    const d = h.allocate(1 << 18);
    expect(h.memory.buffer.byteLength).toBe(size);
    for (const p of [b, c, d]) h.release(p);
  });

  test('grows, and says what was asked when it cannot', () => {
    const h = heap();
    expect(h.allocate(50 << 20).pointer).toBeGreaterThan(0);
    expect(() => h.allocate(2 ** 33)).toThrow(/memory: the WebAssembly memory cannot grow: asked 8192\.0 MiB/);
  });

  test('a second release is an error', () => {
    const h = heap();
    const a = h.allocate(8);
    h.release(a);
    expect(() => h.release(a)).toThrow(LowrankError);
  });
});

describe('engine', () => {
  test('refuses thread counts that make no sense', async () => {
    for (const threads of [0, -1, 1.5, 1000]) await expect(cpuBackend({ threads })).rejects.toThrow(/threads must be/);
  });

  test('runs on one thread, and says so, where memory cannot be shared', async () => {
    vi.stubGlobal('SharedArrayBuffer', undefined);
    const backend = await cpuBackend({ threads: 4 });
    expect(backend.caps.device).toMatch(/1 thread; memory cannot be shared/);
    expect(backend.caps.features).toContain('threads=1');
    await expectSum(backend);
    await backend.close();
  });

  test('runs on fewer threads, and says so, where workers do not start', async () => {
    vi.stubGlobal('process', { ...process, getBuiltinModule: () => undefined });
    vi.stubGlobal(
      'Worker',
      class {
        constructor() {
          throw new Error('blocked by policy');
        }
      },
    );
    const backend = await cpuBackend({ threads: 2 });
    expect(backend.caps.device).toMatch(/1 thread; worker threads did not start: blocked by policy/);
    await expectSum(backend);
    await backend.close();
  });

  test('temporaries of an op are gone after it', async () => {
    const engine = await Engine.create({ threads: 1 });
    const before = engine.reservedBytes;
    const a = engine.temporary(100);
    const b = engine.temporary(10 << 20);
    expect(b).toBeGreaterThanOrEqual(a + 100);
    engine.reset();
    expect(engine.reservedBytes - before).toBeLessThanOrEqual(4 << 20);
    const again = engine.temporary(100);
    engine.reset();
    expect(engine.temporary(100)).toBe(again);
    await engine.close();
  });

  test('a closed backend takes no more work', async () => {
    const backend = await cpuBackend({ threads: 2 });
    await backend.close();
    await backend.close();
    expect(() => backend.memory.allocate(4)).toThrow(/closed/);
  });

  test('thousands of small regions in a row, each whole', async () => {
    const backend = await cpuBackend({ threads: 3, splitFrom: 0 });
    const n = 5 * 4096 + 7;
    const x = make(
      backend,
      'f32',
      [n],
      Float32Array.from({ length: n }, (_, i) => i % 97),
    );
    const y = make(backend, 'f32', [n], new Float32Array(n));
    for (let i = 0; i < 3000; i++) {
      backend.primitives.unary({ inputs: { x: i === 0 ? x : y }, outputs: { y }, attrs: { op: 'affine', p: 1, q: 1 } });
    }
    const bytes = await backend.memory.read(y.buffer, 0, n * 4);
    const out = new Float32Array(bytes.buffer);
    expect(out.every((v, i) => v === (i % 97) + 3000)).toBe(true);
    await backend.close();
  });
});

type Made = Awaited<ReturnType<typeof cpuBackend>>;

function make(backend: Made, dtype: DType, shape: readonly number[], data: Float32Array): View {
  const buffer = backend.memory.allocate(data.length * bytesOf[dtype]);
  backend.memory.write(buffer, 0, new Uint8Array(data.buffer));
  return { ...specOf(shape, dtype), strides: contiguousStrides(shape), buffer, byteOffset: 0 };
}

async function expectSum(backend: Made): Promise<void> {
  const a = make(backend, 'f32', [3], Float32Array.of(1, 2, 3));
  const y = make(backend, 'f32', [3], new Float32Array(3));
  backend.primitives.binary({ inputs: { a, b: a }, outputs: { y }, attrs: { op: 'add' } });
  expect([...new Float32Array((await backend.memory.read(y.buffer, 0, 12)).buffer)]).toEqual([2, 4, 6]);
}
