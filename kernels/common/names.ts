import { LowrankError } from './error.ts';

/** Letters to change, insert or delete to turn a into b. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/** The few of `names` that look most like `name`, whole or by what follows their last dot. */
export function nearest(name: string, names: Iterable<string>, count = 3): string[] {
  const short = (s: string) => s.split('.').at(-1)!;
  const score = (s: string) => Math.min(editDistance(name, s), editDistance(short(name), short(s)));
  return [...new Set(names)].sort((a, b) => score(a) - score(b) || (a < b ? -1 : 1)).slice(0, count);
}

/**
 * Throws where an object of options holds a name that is not known: types do not reach JavaScript, and an option that nobody reads would
 * do nothing in silence. `learning_rate` for `learningRate` is the usual case.
 */
export function checkNames(op: string, options: object, known: Iterable<string>): void {
  const names = new Set(known);
  const unknown = Object.keys(options).filter((name) => !names.has(name));
  if (unknown.length)
    throw new LowrankError(op, 'unknown option', unknown.join(', '), `Did you mean ${nearest(unknown[0]!, names, 1)}?`);
}
