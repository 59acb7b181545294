import { describeBackend, describeTiny } from '@lowrank/testkit';
import { describe, test } from 'vitest';
import { webgpuBackend } from '../src/index.ts';
import { whyNoAdapter } from './adapter.ts';

const reason = await whyNoAdapter();
if (reason) describe('WebGPU backend', () => test.skip(`skipped: ${reason}`));
else {
  describeTiny({ name: 'WebGPU backend', create: () => webgpuBackend() });
  describeBackend({ name: 'WebGPU backend', create: () => webgpuBackend() });
}
