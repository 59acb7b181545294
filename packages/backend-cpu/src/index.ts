/** WebAssembly SIMD backend: runs wherever JavaScript runs. */
export { type CpuOptions, cpuBackend } from './backend.ts';
