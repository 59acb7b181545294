import type { Backend, View } from '@lowrank/kernels';
import { afterEach, expect, test, vi } from 'vitest';
import type { Gpu } from '../src/gpu/gpu.ts';
import type { Launcher } from '../src/gpu/launcher.ts';
import { type Layout, layouts, type MatrixTile, type MatrixVariant, Variants } from '../src/gpu/variants.ts';
import { chooseMatrixTile, largeTiles, matrixTiles } from '../src/ops/tiles.ts';
import { tune } from '../src/tune.ts';

const gpuOf = (workgroupBytes: number): Gpu =>
  ({ workgroupBytes, device: { limits: { maxComputeInvocationsPerWorkgroup: 1024 } } }) as unknown as Gpu;
const h200 = gpuOf(48 * 1024);
const matrix: MatrixVariant = { memory: 'words', lanes: 32 };
type Size = readonly [m: number, n: number, k: number, batch: number];
const choose = (layout: Layout, size: Size, gpu = h200, variant = matrix) =>
  chooseMatrixTile(gpu, variant, layout, size, true);

test('large products take the tile of their layout, or the one that measurement found', () => {
  expect(choose('NT', [4096, 4096, 4096, 1])).toEqual({ tile: matrixTiles.deep, splits: 1 });
  expect(choose('NN', [4096, 4096, 4096, 1])).toEqual({ tile: matrixTiles.broad, splits: 1 });
  const own: MatrixTile = { BM: 256, BN: 128, BK: 32, M: 4, N: 4, stages: 1 };
  const tuned = { ...matrix, tiles: { NN: own } };
  expect(choose('NN', [4096, 4096, 4096, 1], h200, tuned).tile).toBe(own);
  expect(choose('NT', [4096, 4096, 4096, 1], h200, tuned).tile).toBe(matrixTiles.deep);
});

test('a broad tile that would mostly compute beyond the edge gives way', () => {
  expect(choose('NN', [4096, 1536, 576, 1]).tile).toBe(matrixTiles.broad);
  expect(choose('NN', [4096, 576, 1536, 1]).tile).toBe(matrixTiles.deep);
});

test('a long inner axis is cut before tiles get smaller', () => {
  const { tile, splits } = choose('NN', [512, 576, 49152, 1]);
  expect(tile).toBe(matrixTiles.deep);
  expect(splits * Math.ceil(512 / 128) * Math.ceil(576 / 128)).toBeGreaterThanOrEqual(96);
  // Partial sums are 16 MiB at most.
  expect(splits * 512 * 576).toBeLessThanOrEqual(2 ** 22);
  expect(choose('NT', [512, 576, 576, 1]).tile).toBe(matrixTiles.small);
  expect(chooseMatrixTile(h200, matrix, 'NN', [512, 576, 49152, 1], false)).toEqual({
    tile: matrixTiles.small,
    splits: 1,
  });
});

test('less workgroup memory, smaller tiles', () => {
  for (const layout of layouts)
    expect(choose(layout, [4096, 4096, 4096, 1], gpuOf(32 * 1024)).tile).toBe(matrixTiles.large);
});

afterEach(() => {
  vi.restoreAllMocks();
});

test('tuning finds the fastest tile of each layout, also where its first call is slow, and passes over what the device refuses', async () => {
  const variants = new Variants();
  variants.matrix = matrix;
  const best: Record<Layout, MatrixTile> = {
    NT: matrixTiles.large,
    NN: matrixTiles.broad,
    TN: matrixTiles.small,
    TT: matrixTiles.deep,
  };
  const [refused, , bestPortable] = largeTiles;
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  const seen = new Set<string>();
  let broken = false;
  const backend = {
    memory: { allocate: (byteLength: number) => ({ byteLength }), release: () => {} },
    synchronize: async () => {
      if (!broken) return;
      broken = false;
      throw new Error('refused');
    },
    primitives: {
      matmul: ({ inputs: { a, b } }: { inputs: { a: View; b: View } }) => {
        const inner = (v: View) => v.strides[1] === 1;
        const layout = `${inner(a) ? 'N' : 'T'}${inner(b) ? 'N' : 'T'}` as Layout;
        const tile = variants.matrix ? variants.matrixTile : variants.tile;
        const fast = tile === (variants.matrix ? best[layout] : bestPortable);
        const key = `${layout} ${JSON.stringify(tile)}`;
        now += seen.has(key) ? (fast ? 1 : 2) : 1000;
        seen.add(key);
        if (tile === refused && seen.size > 1) broken = true;
      },
    },
  } as unknown as Backend;
  const tuning = await tune(backend, { gpu: h200, variants } as unknown as Launcher);
  expect(tuning).toEqual({ large: bestPortable, matrix: best });
  expect(variants).toMatchObject({ large: bestPortable, matrix: { ...matrix, tiles: best } });
  expect([variants.tile, variants.matrixTile]).toEqual([undefined, undefined]);
});
