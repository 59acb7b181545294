import { mergeConfig } from 'vitest/config';
import base from '../vitest.base.ts';

// The harness runs in processes of its own and compiles kernels there.
export default mergeConfig(base, { test: { name: 'benchmarks', testTimeout: 300_000, hookTimeout: 300_000 } });
