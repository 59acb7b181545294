import { mkdirSync, symlinkSync, writeFileSync, existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kernelSources } from '../../scripts/build.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** The driver without a GPU (tests/emulator). */
export const fakeDriver = join(root, 'build/emulator/libfake_cuda.so');

/** Points the package at the driver without a GPU, in this process: kernels are the sources compiled for the processor. */
export function emulate(): void {
  const folder = join(root, 'build/emulator/binaries');
  const kernels = join(folder, 'kernels');
  mkdirSync(kernels, { recursive: true });
  const addon = join(folder, 'lowrank_cuda.node');
  if (!existsSync(addon)) {
    rmSync(addon, { force: true });
    symlinkSync(join(root, 'build/lowrank_cuda.node'), addon);
  }
  const sources = kernelSources();
  // Sixteen bytes with a fatbin's mark: the driver takes kernels by name.
  const image = new Uint8Array(16);
  new DataView(image.buffer).setUint32(0, 0xba55ed50, true);
  for (const { module } of sources) writeFileSync(join(kernels, `${module}.fatbin`), image);
  const names = Object.fromEntries(sources.flatMap(({ module, names }) => names.map((n) => [n, module])));
  writeFileSync(join(kernels, 'kernels.json'), JSON.stringify({ targets: ['emulator'], kernels: names }));
  process.env.LOWRANK_CUDA_BINARIES = folder;
  process.env.LOWRANK_CUDA_DRIVER = fakeDriver;
  process.env.LOWRANK_CUBLASLT = fakeDriver;
}
