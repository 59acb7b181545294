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
  const scored: { candidate: string; distance: number }[] = [];
  let seen = 0;
  for (const candidate of candidates) {
    if (++seen > 20_000) break;
    scored.push({ candidate, distance: editDistance(name.slice(0, 200), candidate.slice(0, 200)) });
  }
  scored.sort((a, b) => a.distance - b.distance);
  return scored
    .slice(0, count)
    .map(({ candidate }) => quote(candidate))
    .join(', ');
}

/** Levenshtein distance of the parts between the common prefix and suffix. */
function editDistance(a: string, b: string): number {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA--;
    endB--;
  }
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
