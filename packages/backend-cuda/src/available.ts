import { blasPaths, driverPaths, findBinaries, loadNative, ncclPaths } from './locate.ts';
import type { DeviceInfo, DriverFound, Native } from './native.ts';

/** What there is to run on, or why there is nothing. */
export type Availability =
  | {
      readonly ok: true;
      /** The driver's library and the CUDA version it supports (`13.0`). */
      readonly driver: { readonly path: string; readonly version: string };
      readonly devices: readonly DeviceInfo[];
      /** cuBLASLt: where it is, or why it was not found (then there is no backend either). */
      readonly blas:
        | { readonly ok: true; readonly path: string; readonly version: number }
        | { readonly ok: false; readonly reason: string };
      /** NCCL, which groups of GPUs need (`2.27.3`), or why it was not found. */
      readonly nccl:
        | { readonly ok: true; readonly path: string; readonly version: string }
        | { readonly ok: false; readonly reason: string };
    }
  | { readonly ok: false; readonly code: string; readonly reason: string };

let found: { native: Native; driver: DriverFound } | undefined;

/** Internal: the addon with a working driver, or the reason. A success is kept for the life of the process. */
export function openDriver():
  | { readonly ok: true; readonly native: Native; readonly driver: DriverFound }
  | { readonly ok: false; readonly code: string; readonly reason: string } {
  if (found) return { ok: true, ...found };
  if (!['linux', 'win32'].includes(process.platform))
    return { ok: false, code: 'platform', reason: `CUDA does not exist on ${process.platform}` };
  const binaries = findBinaries();
  if ('reason' in binaries) return { ok: false, code: 'no-binaries', reason: binaries.reason };
  let native: Native;
  try {
    native = loadNative(binaries);
  } catch (error) {
    return {
      ok: false,
      code: 'no-binaries',
      reason: `the native part does not load: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  const driver = native.loadDriver(driverPaths());
  if (!driver.ok) return { ok: false, code: driver.code ?? 'no-driver', reason: driver.reason };
  found = { native, driver };
  return { ok: true, native, driver };
}

/** Why a device cannot be used, if so. */
export function refusalOf(info: DeviceInfo): string | undefined {
  if (info.computeMajor >= 8) return undefined;
  return `${info.name} has compute capability ${info.computeMajor}.${info.computeMinor}; 8.0 (Ampere) or later is needed`;
}

function cudaVersion(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

/** `2.27.3` of 22703. */
function ncclVersion(version: number): string {
  return `${Math.floor(version / 10000)}.${Math.floor((version % 10000) / 100)}.${version % 100}`;
}

/** Says what CUDA devices and libraries this machine has. Never throws: what is missing is named in `reason`. */
export function available(): Availability {
  const opened = openDriver();
  if (!opened.ok) return opened;
  const { native, driver } = opened;
  try {
    const devices = Array.from({ length: driver.deviceCount }, (_, i) => native.deviceInfo(driver.driver, i));
    const usable = devices.findIndex((d) => !refusalOf(d));
    if (usable < 0) return { ok: false, code: 'old-device', reason: devices.map((d) => refusalOf(d)).join('; ') };
    const device = native.openDevice(driver.driver, usable);
    let blas: ReturnType<Native['loadBlas']>;
    try {
      blas = native.loadBlas(device, blasPaths());
    } finally {
      native.closeDevice(device);
    }
    const found = native.loadNccl(ncclPaths());
    const nccl = found.ok ? { ...found, version: ncclVersion(found.version) } : found;
    return { ok: true, driver: { path: driver.path, version: cudaVersion(driver.version) }, devices, blas, nccl };
  } catch (error) {
    return { ok: false, code: 'device-failed', reason: error instanceof Error ? error.message : String(error) };
  }
}
