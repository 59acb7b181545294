/** WebGPU backend: browsers, and Node through the npm package `webgpu`. */
export type { AdapterFacts, Tuning, WebGpuFeature, WebGpuOptions } from './adapter.ts';
export { available, type WebGpuBackend, webgpuBackend } from './backend.ts';
export type { DispatchTime } from './gpu/timing.ts';
export type { Layout, MatrixTile, TileShape } from './gpu/variants.ts';
