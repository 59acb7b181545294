import { defineConfig } from 'vitest/config';

/**
 * One project a package; each package's own `vitest.config.ts` takes `vitest.base.ts`. All cores work: Vitest leaves one out, which on two
 * cores is half of them.
 */
export default defineConfig({
  test: {
    maxWorkers: '100%',
    projects: ['{kernels,scripts,benchmarks,packages/*,examples/*}/vitest.config.ts'],
    passWithNoTests: true,
  },
});
