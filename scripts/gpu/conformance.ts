/** The conformance suite on whatever GPU is here. */

import { describeBackend } from '@lowrank/testkit';
import { available, cudaBackend } from '../../packages/backend-cuda/src/index.ts';
import { run } from './harness.ts';

const found = available();
if (!found.ok) {
  console.error(`no CUDA: ${found.reason}`);
  process.exit(1);
}
console.log(
  `${found.devices.map((d) => d.name).join(', ')}; driver for CUDA ${found.driver.version}; cuBLASLt ${found.blas.ok ? found.blas.version : found.blas.reason}`,
);
describeBackend({ name: 'cuda', create: () => cudaBackend() });
await run();
process.exit();
