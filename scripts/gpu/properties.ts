/** The property tests of the addon's surface on the GPU that is here; `run.sh` sets LOWRANK_CUDA_REAL. */
import '../../packages/backend-cuda/tests/properties.test.ts';
import { run } from './harness.ts';

await run();
process.exit();
