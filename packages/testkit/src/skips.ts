import { test } from 'vitest';

/**
 * Tests that are known not to hold on a backend. `tests` is an op's name, a whole test id (`matmul 33×64×32 bf16`), or a pattern on ids.
 * They run all the same: one that passes fails the suite, so that the list stays true.
 */
export interface Skip {
  readonly reason: string;
  readonly tests: RegExp | string;
}

/** What a test body says: nothing, or why it could not run here. */
export type Verdict = { readonly refused: string } | undefined;

function matches({ tests }: Skip, id: string): boolean {
  return typeof tests === 'string' ? id === tests || id.startsWith(`${tests} `) : tests.test(id);
}

/** Registers tests that obey a list of skips. */
export class SkipList {
  readonly #skips: readonly Skip[];
  readonly #used = new Set<Skip>();

  readonly #cleanUp: () => void;

  /** `cleanUp` runs after a body that threw, so that what it left behind does not fail later tests. */
  constructor(skips: readonly Skip[], cleanUp: () => void = () => {}) {
    this.#skips = skips;
    this.#cleanUp = cleanUp;
  }

  test(id: string, title: string, body: () => Promise<Verdict>): void {
    const skip = this.#skips.find((s) => matches(s, id));
    if (skip) this.#used.add(skip);
    test(title, async (context) => {
      const reason = await judge(id, skip, body, this.#cleanUp);
      if (reason !== undefined) context.skip(reason);
    });
  }

  /** To be called after all others: a skip that names no test is out of date. */
  testThatAllAreUsed(): void {
    test('every skip names a test', () => {
      const idle = this.#skips.filter((s) => !this.#used.has(s)).map((s) => `${s.tests} (${s.reason})`);
      if (idle.length) throw new Error(`skip: no such test: ${idle.join(', ')}`);
    });
  }
}

/** Runs a body: gives the reason why it counts as skipped, if it does. Throws where it fails, or passes although it is on the list. */
export async function judge(
  id: string,
  skip: Skip | undefined,
  body: () => Promise<Verdict>,
  cleanUp: () => void = () => {},
): Promise<string | undefined> {
  let verdict: Verdict;
  try {
    verdict = await body();
  } catch (error) {
    cleanUp();
    if (skip) return skip.reason;
    throw error;
  }
  if (verdict) return verdict.refused;
  if (skip) throw new Error(`skip: passes now: ${id}. Take it off the list ("${skip.reason}")`);
  return undefined;
}
