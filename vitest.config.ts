import { defineConfig } from 'vitest/config';

/** One project a package; each package's own `vitest.config.ts` takes `vitest.base.ts`. */
export default defineConfig({
  test: { projects: ['{kernels,scripts,benchmarks,packages/*,examples/*}/vitest.config.ts'], passWithNoTests: true },
});
