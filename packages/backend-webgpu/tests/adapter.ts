import { existsSync } from 'node:fs';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import { Variants } from '../src/gpu/variants.ts';
import { tryHalf } from '../src/half.ts';
import { available, type WebGpuBackend } from '../src/index.ts';
import { softwareMemoryTile } from '../src/ops/tiles.ts';
import { tryMatrices } from '../src/probe.ts';

/** Debian's chromium brings SwiftShader: a Vulkan device without a GPU. */
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * Takes SwiftShader where the machine has no GPU, or where WEBGPU_ADAPTER=swiftshader asks for it. Says why there is no adapter; throws instead where
 * REQUIRE_WEBGPU=1 or CI asks for one.
 */
export async function whyNoAdapter(): Promise<string | undefined> {
  const { env } = process;
  const gpu = ['/dev/nvidia0', '/dev/dri/renderD128'].some(existsSync);
  if (!env.VK_ICD_FILENAMES && existsSync(swiftShader) && (!gpu || env.WEBGPU_ADAPTER === 'swiftshader'))
    env.VK_ICD_FILENAMES = swiftShader;
  env.XDG_RUNTIME_DIR ??= '/tmp';
  const answer = await available();
  if (answer.ok) return undefined;
  if (env.REQUIRE_WEBGPU === '1' || env.CI === 'true') throw new Error(`WebGPU is required here: ${answer.reason}`);
  return answer.reason;
}

/**
 * A backend that chooses kernels as it does on a GPU, also where the adapter is software: but one tile for all products, and a short one, since
 * compiling takes most of the time there. The suite in a browser runs what is chosen for software.
 */
export async function asOnGpu(features: 'auto' | 'portable' = 'auto'): Promise<WebGpuBackend> {
  const adapter = await findAdapter({});
  const device = await openDevice(adapter, features);
  const { backend, launcher } = createBackend(device, adapterFacts(adapter.info, device));
  const { software } = launcher.variants;
  if (software)
    Object.assign(launcher.variants, { software: false, apart: new Variants().apart, tile: softwareMemoryTile });
  await tryHalf(backend, launcher);
  await tryMatrices(backend, launcher, adapter.info);
  return backend;
}
