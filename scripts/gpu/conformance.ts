/** The conformance suite on whatever GPU is here. `LOWRANK_POISON=1` fills the scratch of products with NaN first: nothing may depend on it. */

import { describeBackend } from '@lowrank/testkit';
import { backendOn } from '../../packages/backend-cuda/src/backend.ts';
import { available } from '../../packages/backend-cuda/src/index.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { run } from './harness.ts';

const found = available();
if (!found.ok) {
  console.error(`no CUDA: ${found.reason}`);
  process.exit(1);
}
console.log(
  `${found.devices.map((d) => d.name).join(', ')}; driver for CUDA ${found.driver.version}; cuBLASLt ${found.blas.ok ? found.blas.version : found.blas.reason}`,
);
describeBackend({
  name: 'cuda',
  create: async () => {
    const device = CudaDevice.open({});
    if (process.env.LOWRANK_POISON === '1')
      for (const range of [device.blasWorkspace, device.partials]) device.commands.fill(range, 0xffffffff, 4);
    return backendOn(device);
  },
});
await run();
process.exit();
