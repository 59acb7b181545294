import { mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

// A fine-tune in plain TypeScript takes its time.
export default mergeConfig(base, {
  test: { name: 'example-custom-backend', testTimeout: 300_000, hookTimeout: 300_000 },
});
