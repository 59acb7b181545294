export { webgpuBackend, type WebGpuBackend } from './backend.ts';
