/** Plots of docs/benchmarks.md, of the records of one machine. */
import { type Growth, growths } from '../growth.ts';
import type { BenchRecord, Measured } from '../record.ts';
import { bytes, digits, rateOf, shortName } from './format.ts';
import { barChart, logChart } from './svg.ts';

export interface PlotFile {
  readonly name: string;
  /** What stands in its place where pictures are not shown. */
  readonly words: string;
  readonly svg: string;
}

/** A chart of bars, a group a case, a series a contender. */
function bars(
  title: string,
  records: readonly Measured[],
  value: (r: Measured) => number,
  words: (r: Measured) => string,
): string {
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

const isCeiling = (r: Measured) => r.case.startsWith('ceiling');
const rate = (r: Measured) => rateOf(r).value;
const words = (r: Measured) => `${digits(rate(r))} ${rateOf(r).unit}`;
const withShare = (r: Measured) => `${words(r)}${r.ceiling ? `, ${Math.round(100 * r.ceiling.share)} %` : ''}`;

/** Names end in the dtype. */
const dtypeOf = (r: Measured) => / (f32|f16|bf16)$/.exec(r.case)?.[1] ?? 'f32';

function opPlots(ops: readonly Measured[]): PlotFile[] {
  return [...Map.groupBy(ops, (r) => `${rateOf(r).unit} ${dtypeOf(r)}`)].map(([key, records]) => {
    const [unit, dtype] = key.split(' ') as [string, string];
    const of = unit === 'GB/s' ? 'a copy' : 'a large product';
    return {
      name: `ops-${unit === 'GB/s' ? 'bytes' : 'flops'}-${dtype}`,
      words: `${unit} of ops in ${dtype}, and their share of ${of}`,
      svg: bars(`Ops in ${dtype}: ${unit}, and the share of ${of}`, records, rate, withShare),
    };
  });
}

/** Step time and peak memory over a size, all series of an axis in one chart each. */
function growthPlots(records: readonly BenchRecord[]): PlotFile[] {
  const plots: PlotFile[] = [];
  for (const [axis, all] of Map.groupBy(growths(records), (g) => g.axis)) {
    const draw = (
      name: string,
      what: string,
      unit: string,
      exponent: (g: Growth) => number | undefined,
      value: (r: Measured) => number,
    ) => {
      const drawn = all.flatMap((g) => {
        const e = exponent(g);
        const points = g.points.map(({ at, record }) => [at, value(record)] as const);
        return e === undefined ? [] : [{ label: `~ ${axis}^${e.toFixed(2)}: ${g.title}`, points }];
      });
      if (drawn.length)
        plots.push({ name, words: `${what} over ${axis}`, svg: logChart(`${what} over ${axis}`, axis, unit, drawn) });
    };
    draw(
      `growth-${axis}`,
      'Milliseconds a step',
      'ms',
      (g) => g.timeExponent,
      (r) => r.median,
    );
    draw(
      `growth-${axis}-memory`,
      'Peak device memory',
      'MiB',
      (g) => g.peakExponent,
      (r) => r.figures.peakBytes! / 2 ** 20,
    );
  }
  return plots;
}

/** Has a case another beside it that does the same work by other means? Then it stands in the bars, though it is a point of a series too. */
function compared(r: Measured, all: readonly Measured[]): boolean {
  const work = ({ shape: s }: Measured) => `${s?.model} ${s?.layers} ${s?.batch}×${s?.length}`;
  const means = ({ shape: s, contender }: Measured) => `${s?.method} ${s?.recompute} ${s?.record} ${contender.name}`;
  return all.some((x) => x.suite === 'train' && work(x) === work(r) && means(x) !== means(r));
}

type Value = (r: Measured) => number;

/** A plot of bars, or none where no record has the value. */
function barPlot(
  name: string,
  title: string,
  records: readonly Measured[],
  value: (r: Measured) => number | undefined,
  text: (v: number, r: Measured) => string,
): PlotFile[] {
  const seen = records.filter((r) => value(r) !== undefined);
  const known = value as Value;
  if (!seen.length) return [];
  return [{ name, words: title, svg: bars(title, seen, known, (r) => text(known(r), r)) }];
}

export interface MachinePlots {
  readonly ops: readonly PlotFile[];
  readonly train: readonly PlotFile[];
  readonly growth: readonly PlotFile[];
  readonly load: readonly PlotFile[];
  readonly quality: readonly PlotFile[];
}

/** All plots that records give; points of the series stay out of the bars of whole steps. */
export function plotsOf(ok: readonly Measured[], losses: readonly Measured[] = ok): MachinePlots {
  const of = (suite: BenchRecord['suite']) => ok.filter((r) => r.suite === suite && !isCeiling(r));
  const inSeries = new Set(growths(ok).flatMap((g) => g.points.map(({ record }) => record)));
  const steps = of('train').filter((r) => !inSeries.has(r) || compared(r, ok));
  const quality = losses.filter((r) => r.suite === 'quality');
  const percent = (v: number) => `${digits(100 * v)} %`;
  return {
    ops: opPlots(of('ops')),
    train: [
      ...barPlot('train', 'Training: tokens/s', steps, rate, (_, r) => words(r)),
      ...barPlot('memory', 'Training: peak device memory', steps, (r) => r.figures.peakBytes, bytes),
      ...barPlot('resident', 'Training: peak resident memory', steps, (r) => r.figures.peakResidentBytes, bytes),
    ],
    growth: growthPlots(ok),
    load: barPlot('load', 'Loading: GB/s of the file', of('load'), rate, (_, r) => words(r)),
    quality: [
      ...barPlot(
        'quality',
        'Held-out loss after training',
        quality,
        (r) => r.figures.heldOutLoss,
        (v) => v.toFixed(3),
      ),
      ...barPlot('answers', 'Exact answers', quality, (r) => r.figures.score, percent),
      ...barPlot('trainable', 'Trainable share', quality, (r) => r.figures.trainableShare, percent),
    ],
  };
}
