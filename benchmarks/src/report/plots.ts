/** Plots of docs/benchmarks.md, of the records of one machine. */
import { type Growth, growths } from '../growth.ts';
import type { BenchRecord, Measured } from '../record.ts';
import { bytes, digits, rateOf, shortName } from './format.ts';
import { modelOf, newestSteps, type Step, type StepRow } from './steps.ts';
import { barChart, logChart } from './svg.ts';

export interface PlotFile {
  readonly name: string;
  /** What stands in its place where pictures are not shown. */
  readonly words: string;
  readonly svg: string;
}

/** What a bar is of: a case, on a contender. */
interface Item {
  readonly label: string;
  readonly on: string;
  readonly value: number;
  readonly words: string;
}

/** A chart of bars, a group a case, a series a contender; none where there is nothing to draw. */
function barPlot(name: string, title: string, items: readonly Item[]): PlotFile[] {
  if (!items.length) return [];
  const series = [...new Set(items.map((i) => i.on))];
  const groups = [...Map.groupBy(items, (i) => i.label)].map(([label, own]) => ({
    label,
    bars: series.map((on) => own.findLast((i) => i.on === on)),
  }));
  return [{ name, words: title, svg: barChart(title, series, groups) }];
}

/** An item for each record that has the value. */
function itemsOf(
  records: readonly Measured[],
  value: (r: Measured) => number | undefined,
  text: (v: number, r: Measured) => string,
): Item[] {
  return records.flatMap((r) => {
    const v = value(r);
    return v === undefined ? [] : [{ label: r.case, on: shortName(r), value: v, words: text(v, r) }];
  });
}

const isCeiling = (r: Measured) => r.case.startsWith('ceiling');
const rate = (r: Measured) => rateOf(r).value;
const words = (r: Measured) => `${digits(rate(r))} ${rateOf(r).unit}`;
const withShare = (r: Measured) => `${words(r)}${r.ceiling ? `, ${Math.round(100 * r.ceiling.share)} %` : ''}`;

/** Names end in the dtype. */
const dtypeOf = (r: Measured) => / (f32|f16|bf16)$/.exec(r.case)?.[1] ?? 'f32';

function opPlots(ops: readonly Measured[]): PlotFile[] {
  return [...Map.groupBy(ops, (r) => `${rateOf(r).unit} ${dtypeOf(r)}`)].flatMap(([key, records]) => {
    const [unit, dtype] = key.split(' ') as [string, string];
    const of = unit === 'GB/s' ? 'a copy' : 'a large product';
    const name = `ops-${unit === 'GB/s' ? 'bytes' : 'flops'}-${dtype}`;
    return barPlot(
      name,
      `Ops in ${dtype}: ${unit}, and the share of ${of}`,
      itemsOf(records, rate, (_, r) => withShare(r)),
    );
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

/** Names of the steps that are points of a series alone. */
export const seriesPoints = (ok: readonly Measured[]): ReadonlySet<string> =>
  new Set(growths(ok).flatMap((g) => g.points.flatMap(({ record: r }) => (compared(r, ok) ? [] : [r.case]))));

export interface MachinePlots {
  readonly ops: readonly PlotFile[];
  readonly train: readonly PlotFile[];
  readonly growth: readonly PlotFile[];
  readonly load: readonly PlotFile[];
  readonly quality: readonly PlotFile[];
}

/**
 * All plots that records give; points of the series stay out of the bars of whole steps. `losses` are records whose times do not count,
 * `steps` the newest of each case.
 */
export function plotsOf(
  ok: readonly Measured[],
  losses: readonly Measured[] = ok,
  steps: readonly Step[] = newestSteps(
    ok.filter((r) => r.suite === 'train'),
    [],
  ),
): MachinePlots {
  const of = (suite: BenchRecord['suite']) => ok.filter((r) => r.suite === suite && !isCeiling(r));
  const points = seriesPoints(ok);
  const stepItems = (own: readonly Step[], value: (row: StepRow) => number | undefined, text: (v: number) => string) =>
    own.flatMap(({ now }): Item[] => {
      const v = value(now);
      if (v === undefined || points.has(now.name)) return [];
      return [{ label: now.name, on: now.on.replace(/ \(.*$/, ''), value: v, words: text(v) }];
    });
  const quality = losses.filter((r) => r.suite === 'quality');
  const percent = (v: number) => `${digits(100 * v)} %`;
  return {
    ops: opPlots(of('ops')),
    train: [...Map.groupBy(steps, ({ now }) => modelOf(now.name))].flatMap(([model, own]) => [
      ...barPlot(
        `train-${model}`,
        `Training ${model}: tokens/s`,
        stepItems(own, (s) => s.tokensPerSecond, digits),
      ),
      ...barPlot(
        `memory-${model}`,
        `Training ${model}: peak device memory`,
        stepItems(own, (s) => s.peakBytes, bytes),
      ),
      ...barPlot(
        `resident-${model}`,
        `Training ${model}: peak resident memory`,
        stepItems(own, (s) => s.residentBytes, bytes),
      ),
    ]),
    growth: growthPlots(ok),
    load: barPlot(
      'load',
      'Loading: GB/s of the file',
      itemsOf(of('load'), rate, (_, r) => words(r)),
    ),
    quality: [
      ...barPlot(
        'quality',
        'Held-out loss after training',
        itemsOf(
          quality,
          (r) => r.figures.heldOutLoss,
          (v) => v.toFixed(3),
        ),
      ),
      ...barPlot(
        'answers',
        'Exact answers',
        itemsOf(quality, (r) => r.figures.score, percent),
      ),
      ...barPlot(
        'trainable',
        'Trainable share',
        itemsOf(quality, (r) => r.figures.trainableShare, percent),
      ),
    ],
  };
}
