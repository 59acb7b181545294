import { type Backend, f16Code, specOf, type View } from '@lowrank/kernels';
import type { Launcher } from './gpu/launcher.ts';
import type { MatrixVariant } from './gpu/variants.ts';

const name = 'subgroup-matrix';
/** Sizes of the trial product. */
const [m, n, k] = [128, 136, 64] as const;
/** Tiles of 128 rows of five vectors twice, and 16 × 16 results of eight subgroups. */
const workgroupBytes = 2 * 128 * 5 * 16 + 8 * 256 * 4;

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
  const threads = 8 * info.subgroupMaxSize;
  const missing = ['chromium-experimental-subgroup-matrix', 'shader-f16', 'subgroups'].filter((f) => !gpu.features.has(f));
  const configs = [...(info.subgroupMatrixConfigs ?? [])];
  const fits = (c: MatrixConfig) => c.componentType === 'f16' && c.resultComponentType === 'f32' && c.M === 16 && c.N === 16 && c.K === 16;
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
  if (reason) return variants.refuse(name, reason);
  const problems: string[] = [];
  for (const [offsetUnit, strideUnit] of [[1, 1], [8, 8], [1, 8], [8, 1]] as const) {
    const problem = await trial(backend, launcher, { offsetUnit, strideUnit, threads });
    if (!problem) return;
    problems.push(`${offsetUnit}/${strideUnit}: ${problem}`);
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
    new Uint8Array(Uint16Array.from({ length: rows * columns }, (_, i) => f16Code(f(Math.floor(i / columns), i % columns))).buffer);
  const buffers = [memory.allocate(m * k * 2), memory.allocate(n * k * 2), memory.allocate(m * n * 4)] as const;
  const [a, b, y] = buffers;
  try {
    for (const [leftInner, rightInner] of [[true, true], [true, false], [false, true]] as const) {
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
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let l = 0; l < k; l++) sum += left(i, l) * right(l, j);
          if (got[i * n + j] !== sum) return `[${i}, ${j}] is ${got[i * n + j]}, should be ${sum} (${leftInner ? 'inner' : 'outer'}, ${rightInner ? 'inner' : 'outer'})`;
        }
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    for (const buffer of buffers) memory.release(buffer);
  }
}
