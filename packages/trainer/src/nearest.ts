/** Edits (insert, delete, replace) between two names. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** The `count` names most like `name`, for messages. */
export function nearest(name: string, names: Iterable<string>, count = 3): string[] {
  return [...names]
    .map((candidate) => [candidate, candidate.includes(name) ? 0 : distance(name, candidate)] as const)
    .sort((a, b) => a[1] - b[1])
    .slice(0, count)
    .map(([candidate]) => candidate);
}
