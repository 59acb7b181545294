import { existsSync } from 'node:fs';
import { available } from '../src/index.ts';

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
