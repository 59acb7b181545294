/**
 * The conformance suite on WebGPU through Dawn, one variant a process: WEBGPU_FEATURES is `auto`, `portable` or a list of features with commas;
 * WEBGPU_ROBUST=1 leaves Dawn's checks of indices on and its workgroup memory cleared, which the backend turns off.
 */

import { describeBackend, describeTiny } from '@lowrank/testkit';
import {
  available,
  type WebGpuFeature,
  type WebGpuOptions,
  webgpuBackend,
} from '../../packages/backend-webgpu/src/index.ts';
import { run } from './harness.ts';

const asked = process.env.WEBGPU_FEATURES ?? 'auto';
const options: WebGpuOptions = {
  features: asked === 'auto' || asked === 'portable' ? asked : (asked.split(',') as WebGpuFeature[]),
  ...(process.env.WEBGPU_ROBUST && { dawn: ['enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia'] }),
};
const found = await available(options);
if (!found.ok) {
  console.error(`no WebGPU: ${found.reason}`);
  process.exit(1);
}
const trial = await webgpuBackend(options);
console.log(JSON.stringify({ device: trial.caps.device, features: trial.caps.features, variants: trial.variants() }));
await trial.close();
const create = () => webgpuBackend(options);
const name = `webgpu ${asked}${process.env.WEBGPU_ROBUST ? ' robust' : ''}`;
describeTiny({ name, create });
describeBackend({ name, create });
await run();
process.exit();
