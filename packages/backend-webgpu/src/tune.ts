import { type Backend, specOf, type View } from '@lowrank/kernels';
import type { Tuning } from './adapter.ts';
import type { Launcher } from './gpu/launcher.ts';
import type { TileShape } from './gpu/variants.ts';
import { largeTiles, threadsOf, tileBytes } from './ops/tiles.ts';

/** Milliseconds that a trial should take at least, so that the clock's grain does not count. */
const enough = 5;

/** Times a large product by each tile that fits the device; the fastest is used from then on. */
export async function tune(backend: Backend, launcher: Launcher): Promise<Tuning> {
  const { gpu, variants } = launcher;
  const { limits } = gpu.device;
  const candidates = largeTiles.filter(
    (t) => tileBytes(t) <= gpu.workgroupBytes && threadsOf(t) <= limits.maxComputeInvocationsPerWorkgroup,
  );
  const before = variants.tile;
  let side = 128;
  let best: { tile: TileShape; ms: number } | undefined;
  try {
    variants.tile = candidates[0];
    while (side < 2048 && (await time(backend, side)) < enough) side *= 2;
    for (const tile of candidates) {
      variants.tile = tile;
      const ms = await time(backend, side);
      if (!best || ms < best.ms) best = { tile, ms };
    }
  } finally {
    variants.tile = before;
  }
  variants.large = best!.tile;
  return { large: best!.tile };
}

/** Milliseconds of one product of side³ in f32: the least of three, after one to compile. */
async function time(backend: Backend, side: number): Promise<number> {
  const views = [0, 1, 2].map(
    (): View => ({ ...specOf([side, side], 'f32'), buffer: backend.memory.allocate(side * side * 4), byteOffset: 0 }),
  );
  const [a, b, y] = views as [View, View, View];
  let least = Infinity;
  for (let i = 0; i < 4; i++) {
    const start = performance.now();
    backend.primitives.matmul({ inputs: { a, b }, outputs: { y }, attrs: {} });
    await backend.synchronize();
    if (i > 0) least = Math.min(least, performance.now() - start);
  }
  for (const { buffer } of views) backend.memory.release(buffer);
  return least;
}
