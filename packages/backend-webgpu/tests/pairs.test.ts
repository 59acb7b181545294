import { specOf, type View } from '@lowrank/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { WebGpuBackend } from '../src/index.ts';
import { asOnGpu, whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
/** Rows enough for three ranges of the sums. */
const [m, k] = [1100, 44] as const;
const value = (i: number, salt: number) => Math.sin(i * 0.37 + salt);

describe.skipIf(reason !== undefined)(
  `gradients of pairs over many rows${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    let backend: WebGpuBackend;
    beforeAll(async () => {
      backend = await asOnGpu();
    });
    afterAll(() => backend?.close());

    test.each([
      ['three ranks', [24, 12, 20], [16, 8, 5]],
      ['one pair', [36], [32]],
      ['a rank beyond what thin kernels take', [20, 20], [40, 4]],
    ] as const)('%s', async (_, widths, ranks) => {
      const n = widths.reduce<number>((sum, w) => sum + w, 0);
      const rank = ranks.reduce<number>((sum, r) => sum + r, 0);
      const empty = (...shape: number[]): View => ({
        ...specOf(shape, 'f32'),
        buffer: backend.memory.allocate(shape.reduce((p, d) => p * d, 4)),
        byteOffset: 0,
      });
      const filled = (salt: number, ...shape: number[]): View => {
        const view = empty(...shape);
        const values = Float32Array.from({ length: shape.reduce((p, d) => p * d, 1) }, (_, i) => value(i, salt));
        backend.memory.write(view.buffer, 0, new Uint8Array(values.buffer));
        return view;
      };
      const [dy, x, h] = [filled(1, m, n), filled(2, m, k), filled(3, m, rank)];
      const layers = widths.map((w, i) => ({
        weight: filled(4 + i, w, k),
        a: filled(7 + i, ranks[i]!, k),
        b: filled(10 + i, w, ranks[i]!),
      }));
      const [da, db] = [ranks.map((r) => empty(r, k)), widths.map((w, i) => empty(w, ranks[i]!))];
      const call = {
        inputs: { dy, x, h, layers },
        outputs: { dx: empty(m, k), da, db },
        attrs: { layers: widths.map((w) => ({ outFeatures: w, scale: 0.5 })), needX: true },
      };
      const kernel = backend.fused!.loraLinearBackward!;
      const workspace = empty(kernel.workspace!(call as never) / 4);
      kernel.run({ ...call, workspace } as never);
      const read = async ({ buffer, shape }: View) =>
        new Float32Array(Uint8Array.from(await backend.memory.read(buffer, 0, shape[0]! * shape[1]! * 4)).buffer);
      let [column, hColumn] = [0, 0];
      for (const [i, w] of widths.entries()) {
        const r = ranks[i]!;
        const own = (row: number, j: number) => Math.fround(value(row * n + column + j, 1));
        const g = Array.from({ length: m * r }, (_, e) => {
          let sum = 0;
          for (let j = 0; j < w; j++) sum += own(Math.floor(e / r), j) * Math.fround(value(j * r + (e % r), 10 + i));
          return 0.5 * sum;
        });
        const [gotA, gotB] = [await read(da[i]!), await read(db[i]!)];
        for (let e = 0; e < r * k; e += 7) {
          let sum = 0;
          for (let row = 0; row < m; row++)
            sum += g[row * r + Math.floor(e / k)]! * Math.fround(value(row * k + (e % k), 2));
          expect(Math.abs(gotA[e]! - sum), `da ${i} ${e}`).toBeLessThan(2e-3);
        }
        for (let e = 0; e < w * r; e += 7) {
          let sum = 0;
          for (let row = 0; row < m; row++)
            sum += 0.5 * own(row, Math.floor(e / r)) * Math.fround(value(row * rank + hColumn + (e % r), 3));
          expect(Math.abs(gotB[e]! - sum), `db ${i} ${e}`).toBeLessThan(2e-3);
        }
        column += w;
        hColumn += r;
      }
    });
  },
);
