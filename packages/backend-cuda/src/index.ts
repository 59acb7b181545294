/** CUDA: the Backend contract on NVIDIA GPUs, through the driver API, cuBLASLt and our own kernels. */
export { type Availability, available } from './available.ts';
export { cudaBackend } from './backend.ts';
export type { DeviceInfo } from './native.ts';
export type { CudaOptions } from './runtime/device.ts';
