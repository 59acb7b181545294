/**
 * Stands in for vitest where it is not installed: registers suites in order, runs them one by one, prints what fails, and leaves a line a
 * test in the file that `LOWRANK_RECORD` names. Filter: `LOWRANK_FILTER` (a part of the full name). `LOWRANK_SHARD=2/5` runs the second
 * of five parts of the suite, so that several processes share it. `LOWRANK_VERBOSE=1` names each test before it runs.
 */
import { appendFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';

type Body = (context: { skip(reason?: string): void }) => unknown;
interface Suite {
  readonly name: string;
  readonly before: Body[];
  readonly after: Body[];
  readonly beforeEach: Body[];
  readonly afterEach: Body[];
  readonly items: (Suite | { readonly name: string; readonly body: Body })[];
}

const suiteOf = (name: string): Suite => ({ name, before: [], after: [], beforeEach: [], afterEach: [], items: [] });
const root = suiteOf('');
let current = root;

export function describe(name: string, body: () => void): void {
  const outer = current;
  const suite = suiteOf(name);
  outer.items.push(suite);
  current = suite;
  try {
    body();
  } finally {
    current = outer;
  }
}
export function test(name: string, body: Body): void {
  current.items.push({ name, body });
}
/** One test a row; `%i` and `%s` in the name stand for the row's values in turn. */
test.each =
  <Row extends readonly unknown[]>(rows: readonly Row[]) =>
  (name: string, body: (...values: Row) => unknown): void => {
    for (const row of rows) {
      let at = 0;
      test(
        name.replace(/%[is]/g, () => String(row[at++])),
        () => body(...row),
      );
    }
  };
export const beforeAll = (body: Body): number => current.before.push(body);
export const afterAll = (body: Body): number => current.after.unshift(body);
export const beforeEach = (body: Body): number => current.beforeEach.push(body);
export const afterEach = (body: Body): number => current.afterEach.unshift(body);

function subset(actual: unknown, expected: unknown): boolean {
  if (expected === null || typeof expected !== 'object') return Object.is(actual, expected);
  return (
    typeof actual === 'object' &&
    actual !== null &&
    Object.entries(expected).every(([k, v]) => subset((actual as Record<string, unknown>)[k], v))
  );
}

const show = (x: unknown) => {
  const text =
    typeof x === 'function'
      ? String(x)
      : JSON.stringify(x, (_, v) => (ArrayBuffer.isView(v) ? Array.from(v as Uint8Array).slice(0, 32) : v));
  return (text ?? String(x)).slice(0, 400);
};

class Expectation {
  readonly #actual: unknown;
  readonly #wanted: boolean;
  readonly #note: string;
  constructor(actual: unknown, note = '', wanted = true) {
    this.#actual = actual;
    this.#note = note;
    this.#wanted = wanted;
  }
  get not(): Expectation {
    return new Expectation(this.#actual, this.#note, !this.#wanted);
  }
  #check(holds: boolean, what: string): void {
    if (holds !== this.#wanted)
      throw new Error(
        `${this.#note ? `${this.#note}: ` : ''}expected ${show(this.#actual)} ${this.#wanted ? '' : 'not '}${what}`,
      );
  }
  toBe(x: unknown): void {
    this.#check(Object.is(this.#actual, x), `to be ${show(x)}`);
  }
  toBeInstanceOf(x: new (...args: never[]) => unknown): void {
    this.#check(this.#actual instanceof x, `to be a ${x.name}`);
  }
  toEqual(x: unknown): void {
    this.#check(isDeepStrictEqual(this.#actual, x), `to equal ${show(x)}`);
  }
  toMatchObject(x: unknown): void {
    this.#check(subset(this.#actual, x), `to match ${show(x)}`);
  }
  toBeUndefined(): void {
    this.#check(this.#actual === undefined, 'to be undefined');
  }
  toBeLessThan(x: number): void {
    this.#check((this.#actual as number) < x, `to be less than ${x}`);
  }
  toBeLessThanOrEqual(x: number): void {
    this.#check((this.#actual as number) <= x, `to be at most ${x}`);
  }
  toBeGreaterThan(x: number): void {
    this.#check((this.#actual as number) > x, `to be more than ${x}`);
  }
  toBeGreaterThanOrEqual(x: number): void {
    this.#check((this.#actual as number) >= x, `to be at least ${x}`);
  }
  toBeCloseTo(x: number, digits = 2): void {
    this.#check(Math.abs((this.#actual as number) - x) < 10 ** -digits / 2, `to be close to ${x}`);
  }
  toMatch(x: RegExp | string): void {
    this.#check(
      typeof x === 'string' ? String(this.#actual).includes(x) : x.test(String(this.#actual)),
      `to match ${x}`,
    );
  }
  toContain(x: unknown): void {
    this.#check((this.#actual as unknown[] | string).includes(x as never), `to contain ${show(x)}`);
  }
  toThrow(x?: RegExp | string | (new (...args: never[]) => unknown)): void {
    let message: string | undefined;
    try {
      (this.#actual as () => void)();
    } catch (error) {
      if (typeof x === 'function') return this.#check(error instanceof x, `to throw a ${x.name}, not ${String(error)}`);
      message = error instanceof Error ? error.message : String(error);
    }
    if (typeof x === 'function') return this.#check(false, `to throw a ${x.name}`);
    this.#check(
      message !== undefined && (x === undefined || (typeof x === 'string' ? message.includes(x) : x.test(message))),
      `to throw${x ? ` ${x}` : ''}`,
    );
  }
}
export const expect = (actual: unknown, note?: string) => new Expectation(actual, note);

class Skipped {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

/** Runs all that was registered. Sets the exit code. */
export async function run(): Promise<void> {
  const record = process.env.LOWRANK_RECORD;
  const filter = process.env.LOWRANK_FILTER;
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const context = {
    skip: (reason = '') => {
      throw new Skipped(reason);
    },
  };
  const [part = 1, parts = 1] = (process.env.LOWRANK_SHARD ?? '1/1').split('/').map(Number);
  let count = 0;
  const keep = (line: object) => record && appendFileSync(record, `${JSON.stringify({ kind: 'test', ...line })}\n`);
  const visit = async (
    suite: Suite,
    path: string,
    outerEach: readonly Body[],
    outerAfter: readonly Body[],
  ): Promise<void> => {
    const each = [...outerEach, ...suite.beforeEach];
    const afterwards = [...suite.afterEach, ...outerAfter];
    const chosen = suite.items.filter((i) => 'body' in i === false || !filter || `${path}${i.name}`.includes(filter));
    if (chosen.length === 0) return;
    for (const hook of suite.before) await hook(context);
    for (const item of chosen) {
      const name = `${path}${item.name}`;
      if (!('body' in item)) {
        await visit(item, `${name} > `, each, afterwards);
        continue;
      }
      // What closes a suite closes it in every part.
      // Neighbours, which share kernels, stay together.
      if (Math.floor(count++ / 8) % parts !== part - 1 && !path.includes('in the end')) continue;
      const began = performance.now();
      if (process.env.LOWRANK_VERBOSE === '1') console.log(name);
      try {
        for (const hook of each) await hook(context);
        try {
          await item.body(context);
        } finally {
          for (const hook of afterwards) await hook(context);
        }
        counts.passed++;
        keep({ name, status: 'passed', ms: Math.round(performance.now() - began) });
      } catch (error) {
        if (error instanceof Skipped) {
          counts.skipped++;
          keep({ name, status: 'skipped', reason: error.reason });
          continue;
        }
        counts.failed++;
        const message = error instanceof Error ? error.message : String(error);
        console.log(`FAILED ${name}\n  ${message.slice(0, 600)}`);
        keep({ name, status: 'failed', message: message.slice(0, 2000) });
      }
    }
    for (const hook of suite.after) await hook(context);
  };
  await visit(root, '', [], []);
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  if (counts.failed || counts.passed === 0) process.exitCode = 1;
}
