/** Where and how a rule was broken. */
export interface FormatErrorDetails {
  /** Name of the file or source, as the source gives it. */
  file: string;
  /** Byte offset in `file` at which the rule is broken, where there is one. */
  offset?: number | undefined;
  /** What was found, with its numbers. */
  facts: string;
  /** What to do about it. */
  hint?: string | undefined;
  cause?: unknown;
}

/**
 * The one error of this package: malformed bytes, an impossible request, or a source or sink that failed.
 * The message reads `format: rule broken: facts (file, byte offset). hint`.
 */
export class FormatError extends Error {
  override readonly name = 'FormatError';
  /** Name of the file or source. */
  readonly file: string;
  /** Byte offset in `file`, or undefined where no place in the file is to blame. */
  readonly offset: number | undefined;
  /** The rule that was broken and the facts, without the file and the hint. */
  readonly reason: string;

  constructor(format: string, rule: string, details: FormatErrorDetails) {
    const reason = `${rule}: ${details.facts}`;
    const place = details.offset === undefined ? details.file : `${details.file}, byte ${details.offset}`;
    const hint = details.hint === undefined ? '' : ` ${details.hint}`;
    super(
      `${format}: ${reason} (${place}).${hint}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.file = details.file;
    this.offset = details.offset;
    this.reason = reason;
  }
}

/** A name from a file, quoted and cut so that a hostile one cannot flood a message. */
export function quote(text: string): string {
  return JSON.stringify(text.length <= 120 ? text : `${text.slice(0, 120)}…`);
}

/** At most `count` of `candidates`, those nearest to `name` in edit distance, quoted; `''` when there is none. */
export function nearest(name: string, candidates: Iterable<string>, count = 3): string {
  // Edit distance is for the few that share the most with the name at both ends: there may be 100,000 candidates.
  const wanted = name.slice(0, 200);
  const shared = Array.from(candidates, (candidate) => {
    const [prefix, suffix] = sharedEnds(wanted, candidate.slice(0, 200));
    return { candidate, score: prefix + suffix };
  });
  const few = shared.sort((a, b) => b.score - a.score).slice(0, 200);
  const scored = few.map(({ candidate }) => ({ candidate, distance: editDistance(wanted, candidate.slice(0, 200)) }));
  return scored
    .sort((a, b) => a.distance - b.distance)
    .slice(0, count)
    .map(({ candidate }) => quote(candidate))
    .join(', ');
}

/** Lengths of the common prefix and of the common suffix of what is left. */
function sharedEnds(a: string, b: string): [number, number] {
  const length = Math.min(a.length, b.length);
  let prefix = 0;
  while (prefix < length && a[prefix] === b[prefix]) prefix++;
  let suffix = 0;
  while (suffix < length - prefix && a.at(-1 - suffix) === b.at(-1 - suffix)) suffix++;
  return [prefix, suffix];
}

/** Levenshtein distance of the parts between the common prefix and suffix. */
function editDistance(a: string, b: string): number {
  const [start, suffix] = sharedEnds(a, b);
  const endA = a.length - suffix;
  const endB = b.length - suffix;
  let row = Array.from({ length: endB - start + 1 }, (_, j) => j);
  for (let i = start; i < endA; i++) {
    const next = [i - start + 1];
    for (let j = start; j < endB; j++) {
      const k = j - start;
      next.push(Math.min(row[k + 1]! + 1, next[k]! + 1, row[k]! + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[endB - start]!;
}
