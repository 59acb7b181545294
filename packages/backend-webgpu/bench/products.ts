import { nf4Codebook, type View } from '@lowrank/kernels';
import { type MatrixTile, matrixMemories, type TileShape } from '../src/gpu/variants.ts';
import { thinGradients } from '../src/ops/pairs.ts';
import {
  largeTiles,
  matrixCandidates,
  matrixFits,
  matrixOf,
  matrixTiles,
  threadsOf,
  tileBytes,
} from '../src/ops/tiles.ts';
import { type Bench, relativeError } from './measure.ts';

type Float = 'f32' | 'f16' | 'bf16';
const dtypes: readonly Float[] = ['f32', 'f16', 'bf16'];
/** TFLOP/s that products are to reach on an H200; f16 without subgroup matrices apart. */
const goals = { f32: 48, f16: 200, bf16: 48, portable: 55 } as const;
/** How a and b lie: rows or columns side by side. */
const kinds = [
  ['NN', false, false],
  ['NT', false, true],
  ['TN', true, false],
] as const;
const text = (tile: TileShape | MatrixTile) =>
  Object.entries(tile)
    .map(([k, v]) => (typeof v === 'number' && k !== 'stages' ? v : `${k} ${v}`))
    .join(' ');

/** [n, n] products in every dtype and layout; or, where `tiles` names a kind, by each of them that the device can take. */
export async function products(
  bench: Bench,
  n: number,
  tiles?: 'matrix' | 'portable',
  only: readonly Float[] = { matrix: ['f16'] as const, portable: ['f32', 'f16'] as const, all: dtypes }[tiles ?? 'all'],
): Promise<void> {
  const { primitives } = bench.backend;
  for (const dtype of only) {
    if (!kinds.some(([kind]) => bench.wants(`matmul ${dtype} ${kind}`))) continue;
    const [a, b, y] = [bench.random([n, n], dtype), bench.random([n, n], dtype), bench.empty([n, n], dtype)];
    const host = new Map<View, Float32Array>();
    const values = async (v: View) => {
      if (!host.has(v)) host.set(v, await bench.values(v, 0, n * n));
      return host.get(v)!;
    };
    const turn = (v: View): View => ({ ...v, strides: [1, n] });
    const run = (left: boolean, right: boolean) => () =>
      primitives.matmul({ inputs: { a: left ? turn(a) : a, b: right ? turn(b) : b }, outputs: { y }, attrs: {} });
    /** Some numbers of four rows, against f64. */
    const check = (left: boolean, right: boolean) => async () => {
      const [x, w] = [await values(a), await values(b)];
      const [got, expected]: [number[], number[]] = [[], []];
      for (const i of [0, n >> 3, (n >> 1) + 3, n - 1]) {
        const row = await bench.values(y, i * n, n);
        for (let j = 5; j < n; j += 61) {
          let sum = 0;
          for (let k = 0; k < n; k++) sum += x[left ? k * n + i : i * n + k]! * w[right ? j * n + k : k * n + j]!;
          got.push(row[j]!);
          expected.push(sum);
        }
      }
      return relativeError(got, expected);
    };
    const flops = 2 * n ** 3;
    const without = dtype === 'f16' && !bench.launcher.variants.matrix ? ' without subgroup matrices' : '';
    const measure = async (chosen: readonly (typeof kinds)[number][], variant?: string) => {
      for (const [kind, left, right] of chosen)
        await bench.time(`matmul ${dtype} ${kind}${variant ? '' : without}`, run(left, right), {
          flops,
          check: check(left, right),
          ...(variant ? { variant } : { goal: goals[without ? 'portable' : dtype] }),
        });
    };
    if (!tiles) await measure(kinds);
    else {
      const layouts = tiles === 'matrix' ? ['NT', 'NN'] : [dtype === 'f32' ? 'NN' : 'NT'];
      await tried(bench, dtype, tiles, (variant, only = layouts) =>
        measure(
          kinds.filter(([kind]) => only.includes(kind)),
          variant,
        ),
      );
    }
    bench.free(a, b, y);
  }
}

/** Calls `measure` with each tile in use: those on subgroup matrices, or the portable ones. */
async function tried(
  bench: Bench,
  dtype: Float,
  kind: 'matrix' | 'portable',
  measure: (variant: string, layouts?: readonly string[]) => Promise<void>,
): Promise<void> {
  const { variants: use, gpu } = bench.launcher;
  const { maxComputeInvocationsPerWorkgroup: most } = bench.backend.device.limits;
  const { matrix, tile: before } = use;
  if (kind === 'matrix') {
    for (const tile of matrix ? matrixCandidates : []) {
      if (!matrixFits(gpu, matrix!, tile)) continue;
      use.matrixTile = tile;
      await measure(`matrix ${text(tile)}`);
    }
    // Whether a kind of memory is right shows in the error.
    use.matrixTile = matrixTiles.large;
    for (const memory of matrix ? (Object.keys(matrixMemories) as (keyof typeof matrixMemories)[]) : []) {
      use.matrix = { ...matrix!, memory };
      await measure(`matrix, memory of ${memory}`, ['NT']);
    }
    use.matrix = matrix;
    use.matrixTile = undefined;
    return;
  }
  use.matrix = undefined;
  for (const tile of largeTiles) {
    if (tileBytes(tile) > gpu.workgroupBytes || threadsOf(tile) > most) continue;
    if (dtype === 'f16' && tile.stages === 0) continue; // every load would convert
    use.tile = tile;
    await measure(text(tile));
  }
  use.tile = before;
  use.matrix = matrix;
}

/** NF4: dequantizing [n, n], and products with it, dequantized in the tiles or before. */
export async function quantized(bench: Bench, n: number, withVariants: boolean): Promise<void> {
  const { memory } = bench.backend;
  const fused = bench.backend.fused as Required<typeof bench.backend.fused>;
  const { variants: use } = bench.launcher;
  const codes = bench.random([(n * n) / 2], 'u8');
  const absmax = bench.random([(n * n) / 64], 'f32');
  const codebook = bench.empty([16], 'f32');
  memory.write(codebook.buffer, 0, new Uint8Array(Float32Array.from(nf4Codebook).buffer));
  const weight = { codes, absmax, codebook };
  const attrs = { quantType: 'nf4', blockSize: 64, shape: [n, n] } as const;
  for (const dtype of dtypes) {
    if (!['dequantize', 'quantMatmul'].some((op) => bench.wants(`${op} nf4 ${dtype}`))) continue;
    const y = bench.empty([n, n], dtype);
    if (!withVariants)
      await bench.time(
        `dequantize nf4 ${dtype}`,
        () => fused.dequantize.run({ inputs: { weight }, outputs: { y }, attrs: { ...attrs, dtype } }),
        { bytes: n * n * (0.5 + 4 / 64 + (dtype === 'f32' ? 4 : 2)), goal: 2000 },
      );
    const x = bench.random([n, n], dtype);
    const before = use.apart;
    const some = (view: View, rows: number): View => ({ ...view, shape: [rows, n] });
    // Few rows too where it is to be found out from how many a weight is dequantized before.
    for (const rows of withVariants && dtype === 'f16' ? [n, n / 8, n / 16] : [n])
      for (const transposed of [false, true])
        for (const variant of withVariants ? ['in tiles', 'before'] : [undefined]) {
          const from = variant === 'before' ? 0 : Infinity;
          if (variant) use.apart = { f16: from, f32: from };
          const inputs = { x: some(x, rows), weight };
          await bench.time(
            `quantMatmul nf4 ${dtype}${transposed ? ' transposed' : ''}${rows === n ? '' : `, ${rows} rows`}`,
            () => fused.quantMatmul.run({ inputs, outputs: { y: some(y, rows) }, attrs: { ...attrs, transposed } }),
            { flops: 2 * rows * n ** 2, ...(variant ? { variant } : { goal: goals[dtype] }) },
          );
          use.apart = before;
        }
    bench.free(x, y);
  }
  bench.free(codes, absmax, codebook);
}

/** LoRA's products, tall and thin. */
export async function thin(bench: Bench, n: number): Promise<void> {
  const { primitives } = bench.backend;
  for (const dtype of ['f32', 'f16'] as const) {
    const [x, a] = [bench.random([n, n], dtype), bench.random([16, n], 'f32')];
    const [h, g] = [bench.random([n, 16], dtype), bench.empty([16, n], 'f32')];
    const bytes = n * n * (dtype === 'f32' ? 4 : 2);
    const turned: View = { ...a, shape: [n, 16], strides: [1, n] };
    await bench.time(
      `x·Aᵀ ${dtype}`,
      () => primitives.matmul({ inputs: { a: x, b: turned }, outputs: { y: h }, attrs: {} }),
      { bytes },
    );
    const left: View = { ...h, shape: [16, n], strides: [1, 16] };
    await bench.time(
      `gᵀ·x ${dtype}`,
      () => primitives.matmul({ inputs: { a: left, b: x }, outputs: { y: g }, attrs: { dtype: 'f32' } }),
      { bytes },
    );
    const [dy, gradient, db] = [bench.random([n, n], dtype), bench.random([n, 16], 'f32'), bench.empty([n, 16], 'f32')];
    const pair = { g: matrixOf(gradient), dy: matrixOf(dy), h: matrixOf(h), da: g, db, scale: 1 };
    await bench.time(
      `gradients of a pair ${dtype}`,
      () => thinGradients(bench.launcher, bench.scratch, 'loraLinearBackward', matrixOf(x), n, [pair]),
      { bytes: 2 * bytes },
    );
    bench.free(x, a, h, g, dy, gradient, db);
  }
}
