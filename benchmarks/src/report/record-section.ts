/** A record file as a section of docs/benchmarks.md, with its plots. */
import { readFileSync } from 'node:fs';
import { growths } from '../growth.ts';
import { type BenchRecord, type Measured, readRecords } from '../record.ts';
import { bytes, digits, rateOf, shortName, statusWord } from './format.ts';
import { byOp, growthTable, loadTable, losses, methodWords, opsTable, qualityTable, trainTable } from './markdown.ts';
import { barChart, logChart } from './svg.ts';

/** The page so far: sections, and SVG files by name. */
export interface Written {
  readonly text: string[];
  readonly plots: Map<string, string>;
}

/** Does a file hold records of the harness, rather than lines of a GPU run? */
export function isSchemaFile(path: string): boolean {
  const first = readFileSync(path, 'utf8').split('\n', 1)[0]!;
  return first.startsWith('{') && 'schema' in (JSON.parse(first) as object);
}

/** By case and contender, the last record counts. */
function latest(records: readonly BenchRecord[]): BenchRecord[] {
  return [
    ...new Map(records.map((r) => [`${r.suite}\n${r.case}\n${r.contender.name}\n${r.contender.device}`, r])).values(),
  ];
}

const isCeiling = (r: Measured) => r.case.startsWith('ceiling');

/** A chart of bars, a group a case, a series a contender. */
function bars(
  title: string,
  records: readonly Measured[],
  value: (r: Measured) => number,
  words: (r: Measured) => string,
) {
  const series = [...new Set(records.map(shortName))];
  const cases = [...new Set(records.map((r) => r.case))];
  return barChart(
    title,
    series,
    cases.map((label) => ({
      label,
      bars: series.map((name) => {
        const r = records.findLast((x) => x.case === label && shortName(x) === name);
        return r && { value: value(r), words: words(r) };
      }),
    })),
  );
}

function plotsOf(ok: readonly Measured[]): [name: string, svg: string][] {
  const of = (suite: BenchRecord['suite']) => ok.filter((r) => r.suite === suite && !isCeiling(r));
  const out: [string, string][] = [];
  const rate = (r: Measured) => rateOf(r).value;
  const words = (r: Measured) => `${digits(rate(r))} ${rateOf(r).unit}`;
  const flops = of('ops').filter((r) => rateOf(r).unit === 'GFLOP/s');
  const moved = of('ops').filter((r) => rateOf(r).unit === 'GB/s');
  const withShare = (r: Measured) => `${words(r)}${r.ceiling ? `, ${Math.round(100 * r.ceiling.share)} %` : ''}`;
  if (flops.length) out.push(['products', bars('GFLOP/s, and the share of a large product', flops, rate, withShare)]);
  if (moved.length) out.push(['rows', bars('GB/s, and the share of a copy', moved, rate, withShare)]);
  if (of('train').length) out.push(['train', bars('Training: tokens/s', of('train'), rate, words)]);
  const peaks = of('train').filter((r) => r.figures.peakBytes);
  if (peaks.length)
    out.push([
      'memory',
      bars(
        'Training: peak device memory',
        peaks,
        (r) => r.figures.peakBytes!,
        (r) => bytes(r.figures.peakBytes!),
      ),
    ]);
  for (const axis of ['length', 'batch', 'rank', 'layers'] as const) {
    const own = growths(ok).filter((g) => g.axis === axis);
    if (own.length)
      out.push([
        `growth-${axis}`,
        logChart(
          `Milliseconds a step over ${axis}`,
          axis,
          'ms',
          own.map((g) => ({
            label: `~ ${axis}^${g.timeExponent.toFixed(2)}: ${g.title}`,
            points: g.points.map(({ at, record }) => [at, record.median] as const),
          })),
        ),
      ]);
  }
  return out;
}

/** Cases of a device that is a program: that they are right is all that can be said. */
function softwareWords(records: readonly Measured[]): string {
  const devices = [...new Set(records.map((r) => `${shortName(r)} (${r.contender.device})`))];
  const checked = records.filter((r) => r.figures.difference !== undefined && !isCeiling(r));
  return `${devices.join(', ')}: a program stands in for the GPU, so there is no speed here. ${records.length} cases ran, ${checked.length} of them ops whose results are right.`;
}

/** Adds a file's section and plots. */
export function recordSection(path: string, name: string, written: Written): void {
  const { records } = readRecords(path);
  const [first] = records;
  if (!first) return;
  const all = latest(records);
  const ok = all.filter((r) => r.status === 'ok');
  const told = ok.filter((r) => r.marks.length === 0);
  const software = ok.filter((r) => r.marks.includes('software'));
  const busy = ok.filter((r) => r.marks.includes('busy') && !r.marks.includes('software'));
  const of = (suite: BenchRecord['suite']) => told.filter((r) => r.suite === suite);
  const { cpu, cores, os, packages } = first.environment;
  const unique = (values: readonly (string | null | undefined)[]) => [...new Set(values.filter((v) => v))].join(', ');
  const commands = [...new Set(records.map((r) => r.command.replace(/ --(out|html) \S+/g, '')))];
  const drivers = unique(records.map((r) => r.contender.driver));
  const part = (title: string, rows: readonly Measured[], make: (r: readonly Measured[]) => string) =>
    rows.length ? [`### ${title}`, make(rows)] : [];
  const missed = all.flatMap((r) =>
    r.status === 'ok' ? [] : [`- ${r.suite}/${r.case}, ${shortName(r)}: ${statusWord[r.status]}: ${r.reason}`],
  );
  const plots = plotsOf(told);
  const slug = name.replaceAll('/', '-');
  for (const [plot, svg] of plots) written.plots.set(`${slug}-${plot}.svg`, svg);
  const curves = growths(told);
  written.text.push(
    ...[
      `## ${name}`,
      `${cpu}, ${cores} cores to use, ${os}, Node ${packages.node}${drivers ? `, driver ${drivers}` : ''}. Recorded ${unique(records.map((r) => r.date.slice(0, 10)))}, commit ${unique(records.map((r) => r.environment.commit)) || 'unknown'}.`,
      `To repeat:\n\n\`\`\`sh\n${commands.join('\n')}\n\`\`\``,
      ...plots.map(([plot]) => `![${plot}](benchmarks/${slug}-${plot}.svg)`),
      ...part('Methods', of('quality'), (rows) => [qualityTable(rows), methodWords(rows)].filter(Boolean).join('\n\n')),
      ...part('Operations', of('ops'), opsTable),
      ...part('Training steps', of('train'), trainTable),
      ...(curves.length ? ['### Growth', growthTable(told)] : []),
      ...of('train')
        .filter((r) => Object.keys(r.figures).some((k) => k.startsWith('op.')))
        .slice(-1)
        .map(byOp),
      ...part('Loading and saving', of('load'), loadTable),
      ...(told.some((r) => r.contender.kind === 'peer') ? ['### Where we lose', losses(told)] : []),
      ...(software.length ? ['### No speed', softwareWords(software)] : []),
      ...(busy.length
        ? [
            `${busy.length} lines of this file were measured while other programs used the machine, and are left out here.`,
          ]
        : []),
      ...(missed.length ? ['### Not measured', missed.join('\n')] : []),
    ],
  );
}
