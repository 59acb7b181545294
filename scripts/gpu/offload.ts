/** The tests of tensors that wait in host memory, on the GPU. */
import '../../packages/backend-cuda/tests/offload.test.ts';
import { run } from './harness.ts';

await run();
process.exit();
