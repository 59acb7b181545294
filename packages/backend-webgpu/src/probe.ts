import { type Backend, f16Code, f16Value, specOf, type View } from '@lowrank/kernels';
import type { Launcher } from './gpu/launcher.ts';
import {
  type AttentionVariant,
  attentionVariants,
  type Layout,
  type MatrixVariant,
  matrixMemories,
} from './gpu/variants.ts';
import { matrixBytes, matrixTiles, usualMatrixTile } from './ops/tiles.ts';

const name = 'subgroup-matrix';
/** Sizes of the trial product. */
const [m, n, k] = [128, 136, 64] as const;
const workgroupBytes = matrixBytes(matrixTiles.large);

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** What Dawn adds to an adapter's facts. */
type DawnInfo = GPUAdapterInfo & { readonly subgroupMatrixConfigs?: readonly MatrixConfig[] };

/** Takes subgroup matrices into use if the device has them and they multiply rightly; else notes why not. */
export async function tryMatrices(backend: Backend, launcher: Launcher, info: DawnInfo): Promise<void> {
  const { variants, gpu } = launcher;
  const lanes = info.subgroupMaxSize;
  const threads = matrixTiles.large.M * matrixTiles.large.N * lanes;
  const missing = ['chromium-experimental-subgroup-matrix', 'shader-f16', 'subgroups'].filter(
    (f) => !gpu.features.has(f),
  );
  const configs = [...(info.subgroupMatrixConfigs ?? [])];
  const fits = (c: MatrixConfig) =>
    c.componentType === 'f16' && c.resultComponentType === 'f32' && c.M === 16 && c.N === 16 && c.K === 16;
  const reason = missing.length
    ? `the device lacks ${missing.join(', ')}`
    : !configs.some(fits)
      ? 'no 16×16×16 matrices of f16 with f32 sums'
      : info.subgroupMinSize !== info.subgroupMaxSize
        ? `subgroups vary from ${info.subgroupMinSize} to ${info.subgroupMaxSize}`
        : threads > gpu.device.limits.maxComputeInvocationsPerWorkgroup
          ? `eight subgroups are ${threads} invocations`
          : workgroupBytes > gpu.workgroupBytes
            ? `${gpu.workgroupBytes} bytes of workgroup memory, ${workgroupBytes} needed`
            : undefined;
  if (reason) return variants.lacks(name, reason);
  const problems: string[] = [];
  for (const memory of Object.keys(matrixMemories) as (keyof typeof matrixMemories)[]) {
    const problem = await trial(backend, launcher, { memory, lanes });
    if (!problem) return tryAttention(backend, launcher);
    problems.push(`${memory}: ${problem}`);
  }
  variants.matrix = undefined;
  variants.refuse(name, problems.join('; '));
}

const left = (i: number, l: number): number => ((i * 5 + l * 3) % 9) - 4;
const right = (l: number, j: number): number => ((l * 7 + j * 2 + ((j * l) % 5)) % 7) - 3;

/** Multiplies small whole numbers in every layout. Leaves the variant set when all are right; else says what was wrong. */
async function trial(backend: Backend, launcher: Launcher, variant: MatrixVariant): Promise<string | undefined> {
  launcher.variants.matrix = variant;
  const { memory } = backend;
  const codes = (rows: number, columns: number, f: (i: number, j: number) => number) =>
    new Uint8Array(
      Uint16Array.from({ length: rows * columns }, (_, i) => f16Code(f(Math.floor(i / columns), i % columns))).buffer,
    );
  const buffers = [memory.allocate(m * k * 2), memory.allocate(n * k * 2), memory.allocate(m * n * 4)] as const;
  const [a, b, y] = buffers;
  try {
    const usual = (layout: Layout) => usualMatrixTile(launcher.gpu, variant, layout);
    for (const [leftInner, rightInner, tile] of [
      [true, true, usual('NT')],
      [true, false, usual('NN')],
      [false, true, usual('TT')],
      [true, true, matrixTiles.small],
    ] as const) {
      launcher.variants.matrixTile = tile;
      memory.write(a, 0, leftInner ? codes(m, k, left) : codes(k, m, (l, i) => left(i, l)));
      memory.write(b, 0, rightInner ? codes(n, k, (j, l) => right(l, j)) : codes(k, n, right));
      const view = (buffer: typeof a, rows: number, columns: number, straight: boolean): View => ({
        buffer,
        byteOffset: 0,
        dtype: 'f16',
        shape: [rows, columns],
        strides: straight ? [columns, 1] : [1, rows],
      });
      backend.primitives.matmul({
        inputs: { a: view(a, m, k, leftInner), b: view(b, k, n, !rightInner) },
        outputs: { y: { ...specOf([m, n], 'f32'), buffer: y, byteOffset: 0 } },
        attrs: { dtype: 'f32' },
      });
      const got = new Float32Array(Uint8Array.from(await memory.read(y, 0, m * n * 4)).buffer);
      const wrong: string[] = [];
      let count = 0;
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let l = 0; l < k; l++) sum += left(i, l) * right(l, j);
          if (got[i * n + j] === sum) continue;
          if (count++ < 3) wrong.push(`[${i}, ${j}] is ${got[i * n + j]}, should be ${sum}`);
        }
      if (count)
        return `${count} of ${m * n} (a ${leftInner ? 'inner' : 'outer'}, b ${rightInner ? 'inner' : 'outer'}): ${wrong.join(', ')}`;
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    launcher.variants.matrixTile = undefined;
    for (const buffer of buffers) memory.release(buffer);
  }
}

/**
 * Attention on matrices against the portable kernels, forward and backward, two query heads over one key head: the first kind that gives the
 * same is taken.
 */
async function tryAttention(backend: Backend, { variants, gpu }: Launcher): Promise<void> {
  const { memory } = backend;
  const width = gpu.workgroupBytes > 2 ** 15 ? 64 : 32;
  const queries = [1, 128, 2, width] as const;
  const keys = [1, 128, 1, width] as const;
  const made: View[] = [];
  const tensor = (dtype: 'f16' | 'f32' | 'u8', shape: readonly number[], salt?: number): View => {
    const count = shape.reduce((n, d) => n * d, 1);
    const view: View = { ...specOf(shape, dtype), buffer: memory.allocate(count * 4), byteOffset: 0 };
    made.push(view);
    if (salt !== undefined)
      memory.write(
        view.buffer,
        0,
        new Uint8Array(Uint16Array.from({ length: count }, (_, i) => f16Code(Math.sin(i * salt))).buffer),
      );
    return view;
  };
  const read = async (view: View): Promise<Float64Array> => {
    const count = view.shape.reduce((n, d) => n * d, 1);
    const bytes = Uint8Array.from(await memory.read(view.buffer, 0, count * (view.dtype === 'f16' ? 2 : 4)));
    return view.dtype === 'f16'
      ? Float64Array.from(new Uint16Array(bytes.buffer), f16Value)
      : Float64Array.from(new Float32Array(bytes.buffer));
  };
  try {
    const [q, k, v, dy] = [
      tensor('f16', queries, 0.7),
      tensor('f16', keys, 1.3),
      tensor('f16', keys, 2.1),
      tensor('f16', queries, 0.3),
    ];
    const [y, lse, dq, dk, dv] = [
      tensor('f16', queries),
      tensor('f32', [1, 2, 128]),
      tensor('f16', queries),
      tensor('f16', keys),
      tensor('f16', keys),
    ];
    const workspace = tensor('u8', [(2 * 128 + 128) * 8]);
    const attrs = { scale: 0.25, causal: true };
    const results = async (kind: AttentionVariant | undefined): Promise<Float64Array[]> => {
      variants.attention = kind;
      backend.fused.attention!.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
      backend.fused.attentionBackward!.run({
        inputs: { dy, q, k, v, y, lse },
        outputs: { dq, dk, dv },
        attrs,
        workspace,
      });
      return Promise.all([y, lse, dq, dk, dv].map(read));
    };
    const expected = await results(undefined);
    for (const kind of attentionVariants) {
      const problem = await results(kind).then(
        (got) => difference(expected, got),
        (error: Error) => error.message,
      );
      if (!problem) return;
      variants.refuse(`subgroup-matrix attention, ${kind}`, problem);
    }
    variants.attention = undefined;
  } catch (error) {
    variants.attention = undefined;
    variants.refuse('subgroup-matrix attention', error instanceof Error ? error.message : String(error));
  } finally {
    for (const { buffer } of made) memory.release(buffer);
  }
}

/** Says which result is off, if any. */
function difference(expected: readonly Float64Array[], got: readonly Float64Array[]): string | undefined {
  for (const [at, values] of expected.entries()) {
    const most = values.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const off = values.reduce((m, x, i) => Math.max(m, Math.abs(x - got[at]![i]!)), 0);
    if (!(off <= 5e-3 * most)) return `${['y', 'lse', 'dq', 'dk', 'dv'][at]} is off by ${off} of ${most}`;
  }
  return undefined;
}
