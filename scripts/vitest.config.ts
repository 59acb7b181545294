import { mergeConfig } from 'vitest/config';
import base from '../vitest.base.ts';

export default mergeConfig(base, {
  test: { name: 'scripts', include: ['**/*.test.ts'], testTimeout: 300_000, hookTimeout: 600_000 },
});
