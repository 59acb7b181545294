import type { Metric } from '@lowrank/trainer';
import { escaped, page } from '../page.ts';
import type { ShownSample } from '../run/fine-tune.ts';

/** What a report shows. */
export interface ReportContents {
  readonly title: string;
  /** Outcome in a few words each: `Loss` → `0.8812`. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly settings: readonly (readonly [name: string, value: string])[];
  readonly metrics: readonly Metric[];
  readonly samples: readonly ShownSample[];
}

const rows = (pairs: ReportContents['settings']) =>
  pairs.map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`).join('\n');

const style = `
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e3e7ee; --mark: #2f6fdf; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14171d; --line: #2a303b; --mark: #6ea0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.facts { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; }
.facts li { list-style: none; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; }
.facts b { display: block; font-size: 1.15rem; } .facts span { color: var(--soft); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.2rem; }
.chart { min-width: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; overflow: hidden; }
table { border-collapse: collapse; font-size: .9rem; } th { text-align: left; font-weight: 500; color: var(--soft); padding-right: 2rem; } td, th { border-bottom: 1px solid var(--line); padding: .25rem 1.2rem .25rem 0; vertical-align: top; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; margin: .3rem 0; font-size: .85rem; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .8rem; } .label { color: var(--soft); font-size: .85rem; }
h1, td { overflow-wrap: anywhere; } .u-legend th, .u-legend td { border: 0; }
`;

/** Runs in the page: draws what the JSON beside it holds. */
const script = `
const { charts } = JSON.parse(document.getElementById('data').textContent);
const ink = getComputedStyle(document.body).getPropertyValue('--soft');
const line = getComputedStyle(document.body).getPropertyValue('--line');
const colours = ['#2f6fdf', '#e0703a', '#5b9c4a'];
// all places first: the grid's columns depend on how many there are
const places = charts.map(() => {
  const place = document.createElement('div');
  place.className = 'chart';
  document.getElementById('charts').append(place);
  return place;
});
for (const [i, { title, series, data }] of charts.entries()) {
  const place = places[i];
  const axis = { stroke: ink, grid: { stroke: line }, ticks: { stroke: line } };
  const plot = new uPlot({
    title, width: place.clientWidth - 20, height: 240,
    scales: { x: { time: false } },
    axes: [axis, { ...axis, size: 64 }],
    series: [{ label: 'step' }, ...series.map((s) => ({ label: s.label, stroke: colours[s.colour], width: s.thin ? 1 : 2, points: { show: s.points ?? false }, spanGaps: true, alpha: s.thin ? 0.45 : 1 }))],
  }, data, place);
  addEventListener('resize', () => plot.setSize({ width: place.clientWidth - 20, height: 240 }));
}
`;

type Values = (number | null)[];

/** Curves over the steps: what uPlot takes. */
function charts(metrics: readonly Metric[]) {
  const steps = metrics.filter((m) => m.event === 'step');
  const evaluations = new Map(metrics.filter((m) => m.event === 'evaluation').map((m) => [m.step, m.loss]));
  const x = steps.map((s) => s.step);
  const of = (pick: (s: (typeof steps)[number]) => number): Values => steps.map((s) => round(pick(s)));
  const window = Math.max(1, Math.round(steps.length / 40));
  const mean = steps.map((_, i) => {
    const part = steps.slice(Math.max(0, i - window + 1), i + 1);
    return round(part.reduce((sum, s) => sum + s.loss, 0) / part.length);
  });
  const held: Values = x.map((step) => evaluations.get(step) ?? null);
  return [
    {
      title: 'Loss',
      data: [x, of((s) => s.loss), mean, ...(evaluations.size ? [held] : [])],
      series: [
        { label: 'loss', thin: true, colour: 0 },
        { label: 'running mean', colour: 0 },
        ...(evaluations.size ? [{ label: 'evaluation', colour: 1, points: true }] : []),
      ],
    },
    { title: 'Learning rate', data: [x, of((s) => s.learningRate)], series: [{ label: 'learning rate', colour: 0 }] },
    { title: 'Tokens a second', data: [x, of((s) => s.tokensPerSecond)], series: [{ label: 'tokens/s', colour: 0 }] },
    { title: 'Norm of the gradients', data: [x, of((s) => s.gradNorm)], series: [{ label: 'norm', colour: 0 }] },
    {
      title: 'Device memory, MiB',
      data: [x, of((s) => s.memoryBytes / 2 ** 20), of((s) => s.peakMemoryBytes / 2 ** 20)],
      series: [
        { label: 'held', colour: 0 },
        { label: 'peak', colour: 1 },
      ],
    },
  ];
}

function round(x: number): number {
  return Number(x.toPrecision(6));
}

function sampleHtml({ prompt, expected, before, after }: ShownSample): string {
  const part = (name: string, text: string) =>
    `<div><span class="label">${name}</span><pre>${escaped(text) || '&nbsp;'}</pre></div>`;
  return `${part('asked', prompt)}<div class="answers">${part('before', before)}${part('after', after)}${part('expected', expected)}</div>`;
}

/** One HTML file with everything in it: no other file, no network. */
export function htmlReport({ title, facts, settings, metrics, samples }: ReportContents): Promise<string> {
  return page({
    title,
    style,
    script,
    data: { charts: charts(metrics) },
    body: `<ul class="facts">${facts.map(([name, value]) => `<li><b>${escaped(value)}</b><span>${escaped(name)}</span></li>`).join('')}</ul>
<h2>Curves</h2>
<div class="charts" id="charts"></div>
${samples.length ? `<h2>Samples</h2>\n${samples.map(sampleHtml).join('\n')}` : ''}
<h2>Settings</h2>
<table>${rows(settings)}</table>`,
  });
}
