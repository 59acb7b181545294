/**
 * The conformance suite on whatever GPU is here. `LOWRANK_POISON=1` fills the scratch of products with NaN first: nothing may depend on it.
 * `LOWRANK_MARK=1` zeroes what a product of cuBLASLt or attention is about to write: their kernels store tiles by the bulk copy engine, which
 * compute-sanitizer's initcheck does not take for writes, so that it reports every reader of them.
 */

import { describeBackend } from '@lowrank/testkit';
import { backendOn } from '../../packages/backend-cuda/src/backend.ts';
import { available } from '../../packages/backend-cuda/src/index.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { type Gemm, GemmPlans } from '../../packages/backend-cuda/src/runtime/gemm.ts';
import { run } from './harness.ts';

const found = available();
if (!found.ok) {
  console.error(`no CUDA: ${found.reason}`);
  process.exit(1);
}
console.log(
  `${found.devices.map((d) => d.name).join(', ')}; driver for CUDA ${found.driver.version}; cuBLASLt ${found.blas.ok ? found.blas.version : found.blas.reason}`,
);
let current: CudaDevice | undefined;
const marks = process.env.LOWRANK_MARK === '1';
if (marks) {
  const { run: product } = GemmPlans.prototype;
  GemmPlans.prototype.run = function (gemm: Gemm) {
    if (gemm.beta === 0) current!.fill(gemm.d.view, 0);
    return product.call(this, gemm);
  };
}
describeBackend({
  name: 'cuda',
  create: async () => {
    const device = CudaDevice.open({});
    current = device;
    if (process.env.LOWRANK_POISON === '1')
      for (const range of [device.blasWorkspace, device.partials]) device.commands.fill(range, 0xffffffff, 4);
    const backend = backendOn(device);
    const { attention } = backend.fused;
    if (!marks || !attention) return backend;
    const marked: typeof attention = {
      ...attention,
      run: (call) => {
        device.fill(call.outputs.y, 0);
        attention.run(call);
      },
    };
    return { ...backend, fused: { ...backend.fused, attention: marked } };
  },
});
await run();
process.exit();
