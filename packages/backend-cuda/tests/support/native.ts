import { findBinaries, loadNative } from '../../src/locate.ts';
import type { Native } from '../../src/native.ts';
import { emulate, fakeDriver } from './emulated.ts';

/** Asks the driver without a GPU for failures (tests/emulator/fake_cuda.cc). */
export function failWith(spec: string): void {
  process.env.FAKE_CUDA_FAIL = spec;
}

export function reset(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('FAKE_CUDA_')) delete process.env[name];
}

export function nativeAddon(): Native {
  emulate();
  const binaries = findBinaries();
  if ('reason' in binaries) throw new Error(binaries.reason);
  return loadNative(binaries);
}

/** An open emulated device with a stream. */
export function openFake(native: Native): { driver: number; device: number; stream: number } {
  const driver = native.loadDriver([fakeDriver]);
  if (!driver.ok) throw new Error(driver.reason);
  const device = native.openDevice(driver.driver, 0);
  return { driver: driver.driver, device, stream: native.streamCreate(device) };
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

/** An image that the emulated driver takes. */
export const image = (() => {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, 0xba55ed50, true);
  return bytes;
})();
