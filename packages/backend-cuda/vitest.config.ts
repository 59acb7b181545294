import { mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

// A process a file: the driver that a test stands in is chosen by the environment, once a process.
export default mergeConfig(base, {
  test: { name: 'backend-cuda', pool: 'forks', globalSetup: ['tests/support/build.ts'], testTimeout: 120_000 },
});
