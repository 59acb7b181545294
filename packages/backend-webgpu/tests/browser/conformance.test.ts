import { describeBackend } from '@lowrank/testkit';
import { expect, test } from 'vitest';
import { available, webgpuBackend } from '../../src/index.ts';

test('the browser has an adapter', async () => {
  expect(await available()).toMatchObject({ ok: true });
});

describeBackend({ name: 'WebGPU backend in a browser', create: () => webgpuBackend() });
