import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blasPaths, driverPaths, findBinaries, loadNative, ncclPaths, readManifest } from '../../src/locate.ts';
import type { Native } from '../../src/native.ts';
import { emulate, fakeDriver } from './emulated.ts';

/** `LOWRANK_CUDA_REAL=1`: the properties are tried on the GPU that is here (scripts/gpu/properties.ts), not on the driver without one. */
const real = process.env.LOWRANK_CUDA_REAL === '1';

/** Asks the driver without a GPU for failures (tests/emulator/fake_cuda.cc). */
export function failWith(spec: string): void {
  process.env.FAKE_CUDA_FAIL = spec;
}

export function reset(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('FAKE_CUDA_')) delete process.env[name];
}

export function nativeAddon(): Native {
  if (!real) emulate();
  const binaries = findBinaries();
  if ('reason' in binaries) throw new Error(binaries.reason);
  return loadNative(binaries);
}

/** An open device with a stream: emulated, unless the GPU is asked for. */
export function openFake(native: Native): { driver: number; device: number; stream: number } {
  const driver = native.loadDriver(real ? driverPaths() : [fakeDriver]);
  if (!driver.ok) throw new Error(driver.reason);
  const device = native.openDevice(driver.driver, 0);
  return { driver: driver.driver, device, stream: native.streamCreate(device) };
}

/** A group of this device alone; none where a real GPU is tried and NCCL is not there. */
export async function joinAlone(native: Native, device: number): Promise<number | undefined> {
  const found = native.loadNccl(ncclPaths());
  if (!found.ok && !real) throw new Error(found.reason);
  return found.ok ? native.commJoin(device, 0, 1, native.ncclId(), 60_000) : undefined;
}

/** The `code` of the error that `f` throws; undefined when it throws none. */
export function codeOf(f: () => unknown): string | undefined {
  try {
    f();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code ?? `no code: ${String(error)}`;
  }
}

/** Where cuBLASLt is for these tests. */
export const blas = (): string[] => blasPaths();

/** An image that the driver takes and that has the kernel `unary_dense`. */
export const image = ((): Uint8Array => {
  const binaries = findBinaries();
  if (real && !('reason' in binaries))
    return readFileSync(join(binaries.kernels, `${readManifest(binaries).kernels.unary_dense}.fatbin`));
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, 0xba55ed50, true);
  return bytes;
})();
