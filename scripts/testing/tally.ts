import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

/** What a run of a suite came to; `scripts/run.mjs` adds these up. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
}

/** Counts a run into the file named by LOWRANK_TALLY. A file that does not load counts as one failure. */
export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tally: Tally = { passed: 0, failed: errors.length, skipped: [] };
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') tally.passed++;
        else if (result.state === 'skipped') {
          tally.skipped.push({ name: test.fullName, reason: result.note ?? `no reason given (${test.fullName})` });
        } else failedHere++;
      }
      // Errors outside tests: imports, hooks.
      if (!module.ok() && failedHere === 0) failedHere = 1;
      tally.failed += failedHere;
    }
    if (process.env.LOWRANK_TALLY) writeFileSync(process.env.LOWRANK_TALLY, JSON.stringify(tally));
  }
}
