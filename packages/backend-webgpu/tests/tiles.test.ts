import { type DType, f16Code, f16Value, specOf, type View } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import { allTiles, threadsOf, tileBytes } from '../src/ops/tiles.ts';
import { whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
/** That no tile divides. */
const sizes = { f32: [72, 84, 44], f16: [70, 83, 37] } as const; // of f32 by vectors, whole tiles among them
const a = (i: number, l: number) => ((i * 5 + l * 3) % 9) - 4;
const b = (l: number, j: number) => ((l * 7 + j * 2 + ((j * l) % 5)) % 7) - 3;

/** An adapter in software uses one tile for every product; here each is used, whatever the device would choose. */
describe.skipIf(reason !== undefined)(`every portable tile${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let opened: ReturnType<typeof createBackend>;
  beforeAll(async () => {
    const adapter = await findAdapter({});
    const device = await openDevice(adapter);
    opened = createBackend(device, adapterFacts(adapter.info, device));
  });
  afterAll(() => opened?.backend.close());

  for (const tile of allTiles)
    for (const [dtype, turned] of [
      ['f32', false],
      ['f16', true],
    ] as const)
      test(`${Object.values(tile).join('×')} ${dtype}${turned ? ', transposed' : ''}`, async (context) => {
        const { backend, launcher } = opened;
        const [m, n, k] = sizes[dtype];
        const { limits } = backend.device;
        if (
          tileBytes(tile) > limits.maxComputeWorkgroupStorageSize ||
          threadsOf(tile) > limits.maxComputeInvocationsPerWorkgroup
        )
          return context.skip('larger than this device allows');
        const view = (shape: readonly [number, number], type: DType, f?: (i: number, j: number) => number): View => {
          const [rows, columns] = turned ? [shape[1], shape[0]] : shape;
          const made: View = {
            ...specOf(shape, type),
            ...(turned && { strides: [1, columns] }),
            buffer: backend.memory.allocate(rows * columns * 4),
            byteOffset: 0,
          };
          const at = (i: number) =>
            f!(turned ? i % columns : Math.floor(i / columns), turned ? Math.floor(i / columns) : i % columns);
          if (f) {
            const values = Array.from({ length: rows * columns }, (_, i) => at(i));
            const array = type === 'f32' ? Float32Array.from(values) : Uint16Array.from(values, f16Code);
            backend.memory.write(made.buffer, 0, new Uint8Array(array.buffer));
          }
          return made;
        };
        const own = launcher.variants.tile;
        launcher.variants.tile = tile;
        const [left, right] = [view([m, k], dtype, a), view([k, n], dtype, b)];
        const y: View = { ...specOf([m, n], dtype), buffer: backend.memory.allocate(m * n * 4), byteOffset: 0 };
        backend.primitives.matmul({ inputs: { a: left, b: right }, outputs: { y }, attrs: {} });
        launcher.variants.tile = own;
        const raw = Uint8Array.from(await backend.memory.read(y.buffer, 0, m * n * (dtype === 'f32' ? 4 : 2))).buffer;
        const got = dtype === 'f32' ? [...new Float32Array(raw)] : Array.from(new Uint16Array(raw), f16Value);
        const expected = Array.from({ length: m * n }, (_, i) => {
          let sum = 0;
          for (let l = 0; l < k; l++) sum += a(Math.floor(i / n), l) * b(l, i % n);
          return sum;
        });
        expect(got).toEqual(expected);
        for (const { buffer } of [left, right, y]) backend.memory.release(buffer);
      });
});
