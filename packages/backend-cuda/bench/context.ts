/** What the groups of the self-check share. */
import { dynamicMap, nf4Codebook, type QuantViews, type View } from '@lowrank/kernels';
import { Bench } from './measure.ts';

const [record, filter] = process.argv.slice(2);
export const bench = new Bench(record);
export const { backend } = bench;
export const p = backend.primitives;
export const f = backend.fused;
const wanted = (name: string) => !filter || filter.split(',').some((part) => name.includes(part));
export const scratch = (bytes: number): View => bench.empty([bytes], 'u8');
export const { info } = bench.device;
console.log(
  `${info.name}, ${info.multiprocessors} multiprocessors, ${(info.memoryBytes / 2 ** 30).toFixed(1)} GiB, L2 ${info.l2Bytes / 2 ** 20} MiB, sm_${bench.device.capability}, cuBLASLt ${bench.device.blas.version} (${bench.device.blas.path})`,
);
/** Sets of operands that together pass the cache four times. */
export const setsFor = (bytes: number) => Math.max(1, Math.min(12, Math.ceil((4 * info.l2Bytes) / bytes)));

export async function group(name: string, body: () => Promise<void>): Promise<void> {
  if (!wanted(name)) return;
  try {
    await body();
  } catch (error) {
    console.log(`${name}: FAILED: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
    throw error;
  }
}

export function quantizedWeight(n: number, k: number): QuantViews & { dispose(): void } {
  const blocks = (n * k) / 64;
  const views = {
    codes: bench.bits([(n * k) / 2]),
    absmax: bench.bits([blocks]),
    codebook: bench.of('f32', Float32Array.from(nf4Codebook)),
    nestedAbsmax: bench.of('f32', new Float32Array(Math.ceil(blocks / 256)).fill(0.01)),
    nestedCodebook: bench.of('f32', Float32Array.from(dynamicMap)),
    offset: bench.of('f32', Float32Array.of(0.03)),
  };
  return { ...views, dispose: () => bench.free(...Object.values(views)) };
}
