import { cpuBackend } from '@lowrank/backend-cpu';
import { available, webgpuBackend } from '@lowrank/backend-webgpu';
import type { Backend } from '@lowrank/tensor';
import type { BackendChoice, DeviceFacts } from '../protocol.ts';

/** Adapters that compute on the processor: WebAssembly does that faster. */
const software = /swiftshader|llvmpipe|lavapipe|software|basic render/i;

async function withoutGpu(): Promise<string> {
  const found = await available();
  if (!found.ok)
    return `WebGPU is not available here (${found.reason}). Training runs on WebAssembly, which is slower.`;
  const { name, fallback } = found.adapter;
  return fallback || software.test(name)
    ? `WebGPU has only a software adapter here (${name}). Training runs on WebAssembly, which is faster than that.`
    : '';
}

/** Opens the backend that is asked for, or the better one. Says why it is WebAssembly where WebGPU was to be hoped for. */
export async function openBackend(choice: BackendChoice): Promise<{ backend: Backend; facts: DeviceFacts }> {
  const notice = choice === 'auto' ? await withoutGpu() : '';
  if (choice === 'webgpu' || (choice === 'auto' && !notice)) {
    const backend = await webgpuBackend();
    return { backend, facts: { backend: 'webgpu', device: backend.adapter.name, notice: '' } };
  }
  const backend = await cpuBackend();
  return { backend, facts: { backend: 'wasm', device: backend.caps.device, notice } };
}
