import { escaped, page } from 'lowrank/page';
import { growths } from '../growth.ts';
import type { BenchRecord, Measured } from '../record.ts';
import { bytes, digits, rateOf, shortName, statusWord, time } from './format.ts';

/** A plot: rows of bars, or curves over a number. */
interface Plot {
  readonly title: string;
  readonly kind: 'bars' | 'curve';
  readonly labels: readonly string[];
  readonly x: readonly number[];
  readonly series: readonly { readonly label: string; readonly values: readonly (number | null)[] }[];
}

/** A group of bars for each case, a series for each contender. */
function bars(
  title: string,
  records: readonly Measured[],
  value: (r: Measured) => number | undefined,
): Plot | undefined {
  const seen = records.filter((r) => value(r) !== undefined);
  if (!seen.length) return undefined;
  const labels = [...new Set(seen.map((r) => r.case))];
  const names = [...new Set(seen.map(shortName))];
  return {
    title,
    kind: 'bars',
    labels,
    x: labels.map((_, i) => i),
    series: names.map((label) => ({
      label,
      values: labels.map((c) => {
        const found = seen.find((r) => r.case === c && shortName(r) === label);
        return found ? value(found)! : null;
      }),
    })),
  };
}

/** Step time and peak memory over each size that was measured in a series. */
function curves(records: readonly BenchRecord[]): Plot[] {
  return growths(records).flatMap((g): Plot[] => {
    const x = g.points.map(({ at }) => at);
    const plot = (title: string, label: string, value: (r: Measured) => number): Plot => ({
      title: `${title}: ${g.title}`,
      kind: 'curve',
      labels: [g.axis],
      x,
      series: [{ label, values: g.points.map(({ record }) => value(record)) }],
    });
    return [
      plot(`milliseconds a step ~ ${g.axis}^${g.timeExponent.toFixed(2)}`, 'milliseconds', (r) => r.median),
      ...(g.peakExponent === undefined
        ? []
        : [plot(`peak MiB ~ ${g.axis}^${g.peakExponent.toFixed(2)}`, 'MiB', (r) => r.figures.peakBytes! / 2 ** 20)]),
    ];
  });
}

function plotsOf(records: readonly BenchRecord[]): Plot[] {
  const ok = records.filter((r) => r.status === 'ok' && !r.marks.includes('software')) as Measured[];
  const of = (suite: BenchRecord['suite']) => ok.filter((r) => r.suite === suite);
  const rate = (unit: string) => (r: Measured) => {
    const found = rateOf(r);
    return found.unit === unit ? found.value : undefined;
  };
  const figure =
    (name: string, factor = 1) =>
    (r: Measured) =>
      r.figures[name] === undefined ? undefined : r.figures[name] * factor;
  return [
    bars('Operations: GFLOP/s', of('ops'), rate('GFLOP/s')),
    bars('Operations: GB/s', of('ops'), rate('GB/s')),
    bars('Operations: share of the measured ceiling, %', of('ops'), (r) => r.ceiling && 100 * r.ceiling.share),
    bars('Training: tokens/s', of('train'), rate('tokens/s')),
    bars('Training: peak device memory, MiB', of('train'), figure('peakBytes', 2 ** -20)),
    bars('Training: resident memory, MiB', of('train'), figure('peakResidentBytes', 2 ** -20)),
    ...curves(ok),
    bars('Loading: MB/s of the file', of('load'), (r) => r.work.bytes! / r.median / 1000),
    bars('Quality: held-out loss', of('quality'), figure('heldOutLoss')),
    bars('Quality: exact answers, %', of('quality'), figure('score', 100)),
    bars('Quality: trainable share, %', of('quality'), figure('trainableShare', 100)),
  ].filter((p) => p !== undefined);
}

const style = `
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e3e7ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14171d; --line: #2a303b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } p { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1.2rem; }
.plot { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; overflow: hidden; }
.plot ol { margin: .3rem 0 0; padding-left: 1.6rem; font-size: .75rem; color: var(--soft); columns: 2; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; } th { text-align: left; font-weight: 500; color: var(--soft); }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0; vertical-align: top; } .bad { color: #c2410c; }
`;

/** Runs in the page: draws what the JSON beside it holds. */
const script = `
const { plots } = JSON.parse(document.getElementById('data').textContent);
const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const colours = ['#2f6fdf', '#e0703a', '#5b9c4a', '#a04fc4', '#c2a52a'];
for (const { title, kind, labels, x, series } of plots) {
  const place = document.createElement('div');
  place.className = 'plot';
  document.getElementById('plots').append(place);
  const axis = { stroke: of('--soft'), grid: { stroke: of('--line') }, ticks: { stroke: of('--line') } };
  const barred = kind === 'bars';
  const width = 0.8 / series.length;
  const shift = (i) => (i - (series.length - 1) / 2) * width;
  new uPlot({
    title, width: place.clientWidth - 20, height: 260,
    scales: { x: { time: false, ...(barred ? { range: [-0.6, labels.length - 0.4] } : {}) }, y: { range: (u, low, high) => [Math.min(0, low), (high || 1) * 1.08] } },
    axes: [{ ...axis, ...(barred ? { splits: () => labels.map((_, i) => i), values: (u, v) => v.map((i) => i + 1) } : {}) }, { ...axis, size: 64 }],
    series: [{ label: barred ? 'case' : labels[0], ...(barred ? { value: (u, i) => labels[i] ?? '' } : {}) }, ...series.map((s, i) => ({
      label: s.label, stroke: colours[i % colours.length], fill: barred ? colours[i % colours.length] + '66' : undefined, width: barred ? 1 : 2,
      points: { show: !barred }, paths: barred ? uPlot.paths.bars({ size: [width, 60], align: 0 , gap: 1, disp: { x0: { unit: 1, values: (u) => u.data[0].map((v) => v + shift(i) - width / 2) }, size: { unit: 1, values: (u) => u.data[0].map(() => width) } } }) : undefined,
    }))],
  }, [x, ...series.map((s) => s.values)], place);
  if (barred) {
    const list = document.createElement('ol');
    for (const label of labels) list.append(Object.assign(document.createElement('li'), { textContent: label }));
    place.append(list);
  }
}
`;

function row(r: BenchRecord): string {
  const cells =
    r.status === 'ok'
      ? [
          time(r.median),
          `${time(r.p20)}…${time(r.p80)}`,
          [`${digits(rateOf(r).value)} ${rateOf(r).unit}`, ...r.marks].join(', '),
          r.ceiling ? `${Math.round(100 * r.ceiling.share)} % of ${r.ceiling.of}` : '',
          r.figures.peakBytes ? bytes(r.figures.peakBytes) : '',
          String(r.samples.length),
        ]
      : [`${statusWord[r.status]}: ${r.reason}`];
  const first = [r.suite, r.case, `${shortName(r)} (${r.contender.device})`]
    .map((c) => `<td>${escaped(c)}</td>`)
    .join('');
  const rest =
    r.status === 'ok'
      ? cells.map((c) => `<td>${escaped(c)}</td>`).join('')
      : `<td colspan="6" class="bad">${escaped(cells[0]!)}</td>`;
  return `<tr>${first}${rest}</tr>`;
}

/** One HTML file with everything in it: no other file, no network. */
export function htmlReport(records: readonly BenchRecord[]): Promise<string> {
  const first = records[0];
  const env = first?.environment;
  const facts =
    first && env
      ? `${first.date}: ${env.cpu}, ${env.cores} cores, ${env.os}, Node ${env.packages.node}, commit ${env.commit ?? 'unknown'}. ${first.command}`
      : 'no records';
  return page({
    title: 'lowrank benchmarks',
    style,
    script,
    data: { plots: plotsOf(records) },
    body: `<p>${escaped(facts)}</p>
<div class="plots" id="plots"></div>
<h2>All records</h2>
<table><tr><th>suite</th><th>case</th><th>on</th><th>median</th><th>p20…p80</th><th>rate</th><th>share</th><th>peak</th><th>samples</th></tr>
${records.map(row).join('\n')}
</table>`,
  });
}
