import { mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

// A real browser trains a real model here: one file after another, on a page that is built once.
export default mergeConfig(base, {
  test: {
    name: 'example-browser',
    testTimeout: 300_000,
    hookTimeout: 180_000,
    fileParallelism: false,
    globalSetup: './tests/build.ts',
  },
});
