import { type Backend, LowrankError } from '@lowrank/kernels';
import { expect } from 'vitest';
import type { Ledger } from './bench.ts';
import type { SkipList } from './skips.ts';
import { wholeView } from './trial.ts';

const pattern = (n: number, from = 1) => Uint8Array.from({ length: n }, (_, i) => (i * 37 + from) & 255);

/** Raw memory: bytes come back, order is kept, nothing grows. */
export function memorySuite(skips: SkipList, backend: () => Backend, ledger: () => Ledger): void {
  const memory = () => backend().memory;
  const up = (n: number) => Math.ceil(n / memory().alignment) * memory().alignment;
  const check = (title: string, body: () => Promise<void>) =>
    skips.test(`memory ${title}`, title, async () => {
      await body();
      return undefined;
    });

  check('alignment is a power of two, at least 16', async () => {
    const { alignment } = memory();
    expect(alignment).toBeGreaterThanOrEqual(16);
    expect(Math.log2(alignment) % 1).toBe(0);
  });

  check('bytes written are read again, at every length', async () => {
    for (const n of [1, 2, 3, 4, 5, 31, 64, 1021, 65537]) {
      const buffer = ledger().allocate(up(n));
      expect(buffer.byteLength).toBeGreaterThanOrEqual(n);
      memory().write(buffer, 0, pattern(n));
      expect(await memory().read(buffer, 0, n)).toEqual(pattern(n));
      ledger().release(buffer);
    }
  });

  check('write takes the bytes before it returns', async () => {
    const buffer = ledger().allocate(up(64));
    const data = pattern(64);
    memory().write(buffer, 0, data);
    data.fill(0);
    expect(await memory().read(buffer, 0, 64)).toEqual(pattern(64));
    ledger().release(buffer);
  });

  check('parts are written and read in place', async () => {
    const { alignment } = memory();
    const buffer = ledger().allocate(4 * alignment);
    memory().write(buffer, 0, pattern(4 * alignment));
    memory().write(buffer, alignment, pattern(alignment, 99));
    const expected = pattern(4 * alignment);
    expected.set(pattern(alignment, 99), alignment);
    for (const [from, length] of [
      [0, 4 * alignment],
      [alignment, alignment],
      [alignment - 4, 8],
      [3, 5],
      [1, 1],
      [0, 0],
    ] as const)
      expect(await memory().read(buffer, from, length)).toEqual(expected.slice(from, from + length));
    ledger().release(buffer);
  });

  check('copies between buffers', async () => {
    const { alignment } = memory();
    const from = ledger().allocate(2 * alignment);
    const to = ledger().allocate(3 * alignment);
    memory().write(from, 0, pattern(2 * alignment));
    memory().write(to, 0, new Uint8Array(3 * alignment).fill(7));
    memory().copy(from, alignment, to, 2 * alignment, alignment);
    const expected = new Uint8Array(3 * alignment).fill(7);
    expected.set(pattern(2 * alignment).subarray(alignment), 2 * alignment);
    expect(await memory().read(to, 0, 3 * alignment)).toEqual(expected);
    ledger().release(from);
    ledger().release(to);
  });

  check('writes, kernels, copies and reads keep their order', async () => {
    const bytes = up(4 * 64);
    const [a, b, c] = [ledger().allocate(bytes), ledger().allocate(bytes), ledger().allocate(bytes)];
    const view = (buffer: typeof a) => wholeView(buffer, 'f32', [64]);
    const ones = new Uint8Array(Float32Array.from({ length: 64 }, () => 1).buffer);
    memory().write(a, 0, ones);
    backend().primitives.binary({ inputs: { a: view(a), b: view(a) }, outputs: { y: view(b) }, attrs: { op: 'add' } }); // b = 2
    memory().copy(b, 0, c, 0, 256); // c = 2
    const early = memory().read(b, 0, 256);
    memory().write(a, 0, new Uint8Array(256)); // a = 0, after the sum was made
    backend().primitives.binary({ inputs: { a: view(a), b: view(c) }, outputs: { y: view(b) }, attrs: { op: 'sub' } }); // b = −2
    const late = memory().read(b, 0, 256);
    const floats = (data: Uint8Array) => [...new Set(new Float32Array(Uint8Array.from(data).buffer))];
    expect(floats(await early)).toEqual([2]);
    expect(floats(await late)).toEqual([-2]);
    expect(floats(await memory().read(c, 0, 256))).toEqual([2]);
    for (const buffer of [a, b, c]) ledger().release(buffer);
  });

  check('what does not fit is refused with a LowrankError', async () => {
    expect(() => memory().allocate(2 ** 50)).toThrow(LowrankError);
  });

  check('released memory is used again', async () => {
    const cycle = async () => {
      for (let i = 0; i < 32; i++) ledger().release(ledger().allocate(2 ** 20));
      await backend().synchronize();
    };
    await cycle();
    const before = memory().reservedBytes();
    await cycle();
    await cycle();
    expect(memory().reservedBytes()).toBeLessThanOrEqual(before + 2 ** 20);
  });
}
