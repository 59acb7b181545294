import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const built = join(dirname(fileURLToPath(import.meta.url)), '../../build/emulator');

/** The driver without a GPU (tests/emulator). */
export const fakeDriver = join(built, 'libfake_cuda.so');

/** Points the package at the driver without a GPU, in this process: kernels are the sources compiled for the processor. */
export function emulate(): void {
  process.env.LOWRANK_CUDA_BINARIES = join(built, 'binaries');
  process.env.LOWRANK_CUDA_DRIVER = fakeDriver;
  process.env.LOWRANK_CUBLASLT = fakeDriver;
  process.env.LOWRANK_NCCL = fakeDriver;
}
