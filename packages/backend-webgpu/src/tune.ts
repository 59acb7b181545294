import { type Backend, type DType, specOf, type View } from '@lowrank/kernels';
import type { Tuning } from './adapter.ts';
import type { Launcher } from './gpu/launcher.ts';
import { type Layout, layouts, type MatrixTile } from './gpu/variants.ts';
import { largeTiles, matrixCandidates, matrixFits, threadsOf, tileBytes } from './ops/tiles.ts';

/** Milliseconds that a trial should take at least, so that the clock's grain does not count. */
const enough = 5;
/** Milliseconds from the first trial of a candidate to the last: drivers run a pipeline before it is optimised, and put the better one in its place. */
const optimising = 2000;

/** Times large products by each tile that fits the device, those on subgroup matrices in each layout; the fastest are used from then on. */
export async function tune(backend: Backend, launcher: Launcher): Promise<Tuning> {
  const { gpu, variants } = launcher;
  const { limits } = gpu.device;
  const { tile: before, matrix, matrixTile } = variants;
  const portable = largeTiles.filter(
    (t) => tileBytes(t) <= gpu.workgroupBytes && threadsOf(t) <= limits.maxComputeInvocationsPerWorkgroup,
  );
  const chosen: { -readonly [L in Layout]?: MatrixTile } = {};
  try {
    variants.matrix = undefined;
    const large = await fastest(backend, portable, 'f32', 'NN', (tile) => {
      variants.tile = tile;
    });
    variants.tile = before;
    variants.matrix = matrix;
    if (matrix)
      for (const layout of layouts) {
        const tiles = matrixCandidates.filter((t) => matrixFits(gpu, matrix, t));
        chosen[layout] = await fastest(backend, tiles, 'f16', layout, (tile) => {
          variants.matrixTile = tile;
        });
      }
    variants.large = large;
    const tuning = { large, ...(matrix && { matrix: chosen }) };
    variants.matrixTile = matrixTile;
    variants.useTiles(tuning.matrix);
    return tuning;
  } finally {
    Object.assign(variants, { tile: before, matrixTile });
    variants.matrix ??= matrix;
  }
}

/** The candidate with the least time for a product of n³, in rounds over all of them; those that the device refuses fall out. */
async function fastest<T>(
  backend: Backend,
  candidates: readonly T[],
  dtype: DType,
  layout: Layout,
  use: (candidate: T) => void,
): Promise<T> {
  const [first] = candidates as readonly [T, ...T[]];
  use(first);
  let side = 128;
  await time(backend, side, 1, dtype, layout); // compiles
  while (side < 4096 && (await time(backend, side, 1, dtype, layout)) < enough) side *= 2;
  const calls = Math.ceil(enough / Math.max(0.1, await time(backend, side, 1, dtype, layout)));
  const least = new Map<T, number>();
  let problem: unknown;
  const began = performance.now();
  for (let round = 0; round < 3 || (performance.now() - began < optimising && round < 50); round++)
    for (const candidate of round === 0 ? candidates : [...least.keys()]) {
      use(candidate);
      try {
        const ms = await time(backend, side, calls, dtype, layout);
        // The first call compiles.
        least.set(candidate, round === 0 ? Infinity : Math.min(least.get(candidate)!, ms));
      } catch (error) {
        problem = error;
        least.delete(candidate);
      }
    }
  const [best] = [...least].sort(([, a], [, b]) => a - b);
  if (!best) throw problem;
  return best[0];
}

/** Milliseconds of one product of side³ in a layout, of `calls` in a row. */
async function time(backend: Backend, side: number, calls: number, dtype: DType, layout: Layout): Promise<number> {
  const views = [0, 1, 2].map(
    (): View => ({ ...specOf([side, side], dtype), buffer: backend.memory.allocate(side * side * 4), byteOffset: 0 }),
  );
  const [a, b, y] = views as [View, View, View];
  const lay = (view: View, turned: boolean): View => (turned ? { ...view, strides: [1, side] } : view);
  const inputs = { a: lay(a, layout[0] === 'T'), b: lay(b, layout[1] === 'T') };
  try {
    await backend.synchronize();
    const start = performance.now();
    for (let i = 0; i < calls; i++) backend.primitives.matmul({ inputs, outputs: { y }, attrs: {} });
    await backend.synchronize();
    return (performance.now() - start) / calls;
  } finally {
    for (const { buffer } of views) backend.memory.release(buffer);
  }
}
