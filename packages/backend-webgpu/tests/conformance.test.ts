import { describeBackend, describeTiny } from '@lowrank/testkit';
import { describe, test } from 'vitest';
import { asOnGpu, whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
/** WEBGPU_FEATURES=portable: no feature, and the limits that every adapter has. */
const features = process.env.WEBGPU_FEATURES === 'portable' ? 'portable' : 'auto';
const create = () => asOnGpu(features);
if (reason) describe('WebGPU backend', () => test.skip(`skipped: ${reason}`));
else {
  describeTiny({ name: 'WebGPU backend', create });
  describeBackend({ name: 'WebGPU backend', create });
}
