import { type Backend, bytesOf } from '@lowrank/kernels';
import { expect } from 'vitest';
import type { Ledger } from './bench.ts';
import type { SkipList } from './skips.ts';
import { wholeView } from './trial.ts';

/** Native recording, where a backend has it: nothing runs until the replay; each replay reads contents anew and gives the eager bytes. */
export function recordSuite(skips: SkipList, backend: () => Backend, ledger: () => Ledger): void {
  const n = 67;
  const check = (title: string, body: (record: NonNullable<Backend['record']>) => Promise<void>) =>
    skips.test(`record ${title}`, title, async () => {
      const { record } = backend();
      if (!record) return { refused: 'no native recorder: calls are kept in a list' };
      await body(record);
      return undefined;
    });
  const setUp = () => {
    const { memory, primitives } = backend();
    const bytes = Math.ceil((n * n * bytesOf.f32) / memory.alignment) * memory.alignment;
    const [x, h, y] = [ledger().allocate(bytes), ledger().allocate(bytes), ledger().allocate(bytes)];
    const view = (buffer: typeof x) => wholeView(buffer, 'f32', [n, n]);
    return {
      write: (seed: number) =>
        memory.write(x, 0, new Uint8Array(Float32Array.from({ length: n * n }, (_, i) => Math.sin(seed + i)).buffer)),
      clear: () => memory.write(y, 0, new Uint8Array(n * n * 4)),
      step: () => {
        primitives.matmul({ inputs: { a: view(x), b: view(x) }, outputs: { y: view(h) }, attrs: { alpha: 0.1 } });
        primitives.unary({ inputs: { x: view(h) }, outputs: { y: view(h) }, attrs: { op: 'silu' } });
        primitives.binary({ inputs: { a: view(h), b: view(x) }, outputs: { y: view(y) }, attrs: { op: 'add' } });
      },
      read: () => memory.read(y, 0, n * n * 4),
      release: () => {
        for (const buffer of [x, h, y]) ledger().release(buffer);
      },
    };
  };

  check('runs at the replay alone, bit-equal to the eager step, on new contents each time', async (record) => {
    const s = setUp();
    s.write(1);
    s.step();
    const first = await s.read();
    s.write(2);
    s.step();
    const second = await s.read();
    s.clear();
    record.begin();
    s.step();
    const replayable = record.end();
    expect(await s.read()).toEqual(new Uint8Array(n * n * 4));
    replayable.replay();
    expect(await s.read()).toEqual(second);
    s.write(1);
    replayable.replay();
    replayable.replay();
    expect(await s.read()).toEqual(first);
    replayable.release();
    s.release();
  });

  check('abort leaves the device as it was', async (record) => {
    const s = setUp();
    s.write(3);
    s.step();
    const expected = await s.read();
    s.clear();
    record.begin();
    s.step();
    record.abort();
    expect(await s.read()).toEqual(new Uint8Array(n * n * 4));
    s.step();
    expect(await s.read()).toEqual(expected);
    s.release();
  });
}
