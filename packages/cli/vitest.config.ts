import { mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

// Most tests start the real command line, each time a process that compiles its kernels.
export default mergeConfig(base, { test: { name: 'cli', testTimeout: 300_000, hookTimeout: 300_000 } });
