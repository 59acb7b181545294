import { configDefaults, mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

// A software adapter takes its time to compile: some tests need more than the usual limit on a busy machine.
export default mergeConfig(base, {
  test: {
    name: 'backend-webgpu',
    pool: 'forks',
    testTimeout: 300_000,
    exclude: [...configDefaults.exclude, 'tests/browser/**'],
  },
});
