import { growths, growthWords } from '../growth.ts';
import type { BenchRecord } from '../record.ts';
import { compareSummaries } from '../statistics.ts';
import { bytes, columns, digits, rateOf, shortName, statusWord, time } from './format.ts';

/** The records as tables for a terminal, a suite each. */
export function table(records: readonly BenchRecord[]): string {
  const suites = [...new Set(records.map((r) => r.suite))];
  return suites.map((suite) => `${suite}\n${suiteTable(records.filter((r) => r.suite === suite))}`).join('\n\n');
}

function suiteTable(records: readonly BenchRecord[]): string {
  const head = ['case', 'backend', 'median', 'p20…p80', 'rate', 'of ceiling', 'peak', 'samples'];
  const rows = records.map((r) => {
    if (r.status !== 'ok') return [r.case, shortName(r), statusWord[r.status]];
    const { value, unit } = rateOf(r);
    const peak = r.figures.peakBytes ?? r.figures.weightBytes;
    return [
      r.case,
      shortName(r),
      time(r.median),
      `${time(r.p20)}…${time(r.p80)}`,
      `${digits(value)} ${unit}`,
      r.ceiling ? `${Math.round(100 * r.ceiling.share)} % of ${r.ceiling.of}` : '',
      peak ? bytes(peak) : '',
      String(r.samples.length),
    ];
  });
  const reasons = records.flatMap((r) =>
    r.status === 'ok' ? [] : [`  ${statusWord[r.status]}: ${r.case} on ${shortName(r)}: ${r.reason}`],
  );
  const quality = records.flatMap((r) =>
    r.status === 'ok' && r.figures.score !== undefined
      ? [
          [
            r.case,
            `${(100 * r.figures.trainableShare!).toFixed(2)} %`,
            bytes(r.figures['bytes.weights']!),
            bytes(r.figures.outputBytes!),
            `${r.figures.heldOutLossBefore!.toFixed(3)} → ${r.figures.heldOutLoss!.toFixed(3)}`,
            `${(100 * r.figures.score!).toFixed(0)} %`,
          ],
        ]
      : [],
  );
  return [
    columns([head, ...rows]),
    ...(quality.length
      ? ['', columns([['case', 'trainable', 'weights', 'output', 'held-out loss', 'exact'], ...quality])]
      : []),
    ...growths(records).flatMap((g) => [`  ${growthWords(g)}`, `    ${g.title}`]),
    ...reasons,
    ...markWords(records),
  ].join('\n');
}

/** What the marks of these records mean for their times. */
function markWords(records: readonly BenchRecord[]): string[] {
  const marked = (m: BenchRecord['marks'][number]) =>
    records.filter((r) => r.status === 'ok' && r.marks.includes(m)).length;
  const [busy, software] = [marked('busy'), marked('software')];
  return [
    ...(busy
      ? [`  ${busy} of these were measured while other programs used the machine: their times are not its own`]
      : []),
    ...(software ? [`  ${software} of these ran on a program that stands in for a GPU: their times are no speed`] : []),
  ];
}

const key = (r: BenchRecord) => JSON.stringify([r.suite, r.case, r.contender.name]);

/** Ratios of new over old times with their spread. */
export function comparison(before: readonly BenchRecord[], now: readonly BenchRecord[]): string {
  // an old file may hold several runs: the last one counts
  const old = new Map(before.flatMap((r) => (r.status === 'ok' ? [[key(r), r] as const] : [])));
  const rows: string[][] = [];
  for (const r of now) {
    const was = old.get(key(r));
    if (r.status !== 'ok' || !was) continue;
    const { ratio, low, high, differs } = compareSummaries(was, r);
    const word = !differs ? 'no difference' : ratio < 1 ? `${digits(1 / ratio)}× faster` : `${digits(ratio)}× slower`;
    rows.push([
      r.case,
      shortName(r),
      time(was.median),
      time(r.median),
      `${digits(ratio)} (${digits(low)}…${digits(high)})`,
      word,
    ]);
  }
  if (!rows.length) return '  nothing to compare: no case of this run is in the old records';
  return [
    columns([['case', 'backend', 'before', 'now', 'ratio of times', ''], ...rows]),
    ...otherPlaces(before, now),
    ...markWords([...before, ...now]),
  ].join('\n');
}

/** Two machines are compared, not two versions: said where it is so. */
function otherPlaces(before: readonly BenchRecord[], now: readonly BenchRecord[]): string[] {
  const places = (records: readonly BenchRecord[]) =>
    [...new Set(records.map(({ environment: e }) => `${e.cpu}, ${e.cores} cores, ${e.os}`))].sort().join(' and ');
  const [old, here] = [places(before), places(now)];
  return old === here ? [] : [`  measured in different places: before on ${old}; now on ${here}`];
}
