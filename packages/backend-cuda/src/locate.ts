import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LowrankError } from '@lowrank/kernels';
import { type Native, nativeAbi } from './native.ts';

const here = dirname(fileURLToPath(import.meta.url));
const windows = process.platform === 'win32';

/** Where the addon and the compiled kernels lie. */
export interface Binaries {
  readonly addon: string;
  /** Folder with kernels.json and a fatbin a module. */
  readonly kernels: string;
}

/** Which module holds a kernel, and the targets that were built. */
export interface KernelManifest {
  readonly targets: readonly string[];
  readonly kernels: Readonly<Record<string, string>>;
}

/** Binaries built from source in this package, else those of the package for this platform. `LOWRANK_CUDA_BINARIES` names another folder. */
export function findBinaries(): Binaries | { readonly reason: string } {
  const platform = `@lowrank/backend-cuda-${process.platform}-${process.arch}`;
  const folders: string[] = [];
  if (process.env.LOWRANK_CUDA_BINARIES) folders.push(process.env.LOWRANK_CUDA_BINARIES);
  else {
    folders.push(join(here, '../build'));
    try {
      folders.push(dirname(createRequire(import.meta.url).resolve(`${platform}/package.json`)));
    } catch {
      // not installed: said below
    }
  }
  for (const folder of folders) {
    const found = { addon: join(folder, 'lowrank_cuda.node'), kernels: join(folder, 'kernels') };
    if (existsSync(found.addon)) return found;
  }
  return {
    reason: `the native part is not installed (looked in ${folders.join(', ')}). Install ${platform}, or build it: node scripts/build.mjs in @lowrank/backend-cuda`,
  };
}

let loaded: Native | undefined;

/** Loads the addon once. Needs no GPU and no driver. */
export function loadNative(binaries: Binaries): Native {
  if (!loaded) {
    const native = createRequire(import.meta.url)(realpathSync(binaries.addon)) as Native;
    if (native.abi !== nativeAbi)
      throw new LowrankError(
        'cuda',
        'the native part is of another version',
        `${binaries.addon} speaks version ${native.abi}, this package ${nativeAbi}`,
        'Install the same version of both',
      );
    loaded = native;
  }
  return loaded;
}

export function readManifest(binaries: Binaries): KernelManifest {
  const path = join(binaries.kernels, 'kernels.json');
  if (!existsSync(path))
    throw new LowrankError(
      'cuda',
      'the compiled kernels are missing',
      path,
      'Build them where nvcc is: node scripts/build.mjs --kernels',
    );
  return JSON.parse(readFileSync(path, 'utf8')) as KernelManifest;
}

/** Where a driver may be, most likely first. `LOWRANK_CUDA_DRIVER` names the one to take. */
export function driverPaths(): string[] {
  if (process.env.LOWRANK_CUDA_DRIVER) return [process.env.LOWRANK_CUDA_DRIVER];
  if (windows) return ['nvcuda.dll'];
  return [
    'libcuda.so.1',
    '/usr/local/nvidia/lib64/libcuda.so.1',
    '/usr/local/nvidia/lib/libcuda.so.1',
    '/usr/lib/wsl/lib/libcuda.so.1',
  ];
}

function children(folder: string, pattern: RegExp): string[] {
  try {
    return readdirSync(folder)
      .filter((f) => pattern.test(f))
      .map((f) => join(folder, f));
  } catch {
    return [];
  }
}

/** site-packages of the Pythons at hand: pip's `nvidia-cublas` and `nvidia-nccl` put their libraries there. */
function sitePackages(): string[] {
  const prefixes = [
    process.env.VIRTUAL_ENV,
    process.env.CONDA_PREFIX,
    process.env.HOME && join(process.env.HOME, '.local'),
    '/usr/local',
    '/usr',
  ];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const python = join(folder, windows ? 'python.exe' : 'python3');
    if (!existsSync(python)) continue;
    prefixes.push(dirname(folder));
    try {
      prefixes.push(dirname(dirname(realpathSync(python))));
    } catch {
      // a dangling link
    }
  }
  const pythons = prefixes
    .filter((p) => p !== undefined && p !== '')
    .flatMap((p) => children(join(p!, 'lib'), /^python3\.\d+$/));
  return [
    ...(process.env.PYTHONPATH ?? '').split(delimiter).filter(Boolean),
    ...pythons.flatMap((p) => [join(p, 'site-packages'), join(p, 'dist-packages')]),
  ];
}

/** Where cuBLASLt may be: the loader's path, CUDA_HOME, the usual folders, pip's packages. `LOWRANK_CUBLASLT` names the one to take. */
export function blasPaths(): string[] {
  if (process.env.LOWRANK_CUBLASLT) return [process.env.LOWRANK_CUBLASLT];
  const names = windows ? ['cublasLt64_13.dll', 'cublasLt64_12.dll'] : ['libcublasLt.so.13', 'libcublasLt.so.12'];
  const homes = [
    process.env.CUDA_HOME,
    process.env.CUDA_PATH,
    '/usr/local/cuda',
    ...children('/usr/local', /^cuda-1[23]/)
      .sort()
      .reverse(),
  ];
  const folders = [
    ...homes
      .filter((h) => h !== undefined && h !== '')
      .flatMap((h) => [join(h!, 'lib64'), join(h!, 'bin'), join(h!, 'targets/x86_64-linux/lib')]),
    ...sitePackages().flatMap((s) => [join(s, 'nvidia/cu13/lib'), join(s, 'nvidia/cublas/lib')]),
  ];
  return [...names, ...names.flatMap((n) => folders.map((f) => join(f, n)).filter((p) => existsSync(p)))];
}

/** Where NCCL may be: the loader's path, the usual folders, pip's packages. `LOWRANK_NCCL` names the one to take. */
export function ncclPaths(): string[] {
  if (process.env.LOWRANK_NCCL) return [process.env.LOWRANK_NCCL];
  const name = 'libnccl.so.2';
  const folders = [
    ...[process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda', '/usr/local/nccl', '/usr']
      .filter((h) => h !== undefined && h !== '')
      .flatMap((h) => [join(h!, 'lib64'), join(h!, 'lib'), join(h!, 'lib/x86_64-linux-gnu')]),
    ...sitePackages().map((s) => join(s, 'nvidia/nccl/lib')),
  ];
  return [name, ...folders.map((f) => join(f, name)).filter((p) => existsSync(p))];
}
