import { defineConfig } from 'vitest/config';

/** Suites run on sources: `source` stands first among the export conditions, whichever resolver asks. */
const conditions = ['source', 'module', 'import', 'node', 'default'];

/** What every package's suite shares. */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  oxc: { target: 'node24' },
  test: {
    environment: 'node',
    include: ['tests/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Workers started by a suite must see sources too.
    execArgv: ['--conditions=source'],
  },
});
