import { nodeProcess } from './node-process.ts';

/**
 * WebGPU in Node through the npm package `webgpu` (Dawn). Only reached where `navigator.gpu` is missing. The object that `create` returns
 * must live as long as the process: once collected, Dawn aborts. Devices are destroyed on exit, since ending with work in flight crashes.
 */
const open = new Set<GPUDevice>();
const instances = new Map<string, GPU>();
let hooked = false;

/**
 * Dawn's switches: f16 on NVIDIA's Vulkan driver is off by default, and with it subgroup matrices; our kernels write workgroup memory before
 * they read it, so it need not be cleared, and keep their indices within bounds, so they need not be clamped; timestamps are not to be rounded.
 */
const defaults = [
  'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,disable_workgroup_init,disable_robustness',
  'disable-dawn-features=timestamp_quantization',
];

interface Dawn {
  create(options: string[]): GPU;
  readonly globals: Record<string, unknown>;
}

/** The GPU object of Dawn, one for each set of options. Throws when the package `webgpu` is not installed or does not load. */
export async function dawn(options: readonly string[] = defaults): Promise<GPU> {
  const key = options.join('\n');
  let gpu = instances.get(key);
  if (!gpu) {
    // Not a literal: bundlers of browser builds must not look for it.
    const name = 'webgpu';
    const { create, globals } = (await import(/* @vite-ignore */ name)) as Dawn;
    for (const [k, v] of Object.entries(globals)) if (!(k in globalThis)) Object.assign(globalThis, { [k]: v });
    gpu = create([...options]);
    instances.set(key, gpu);
  }
  return gpu;
}

/** Destroys the device when the process ends, unless it is closed before. */
export function destroyOnExit(device: GPUDevice): void {
  open.add(device);
  void device.lost.then(() => open.delete(device));
  if (hooked) return;
  hooked = true;
  nodeProcess()?.on('exit', () => {
    for (const d of open) d.destroy();
  });
}
