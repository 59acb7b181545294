import { escaped } from 'lowrank/page';
import type { BenchRecord, Measured } from '../record.ts';
import { bytes, digits, rateOf, shortName, statusWord, time } from './format.ts';
import { plotsOf } from './plots.ts';

const style = `
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e3e7ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14171d; --line: #2a303b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } p { color: var(--soft); }
figure { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; margin: 0 0 1.2rem; }
svg { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; } th { text-align: left; font-weight: 500; color: var(--soft); }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0; vertical-align: top; } .bad { color: #c2410c; }
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

const titles = {
  ops: 'Operations',
  train: 'Training steps',
  growth: 'Growth',
  load: 'Loading',
  quality: 'Methods',
} as const;

/** One HTML file with everything in it: no other file, no network, no script. */
export function htmlReport(records: readonly BenchRecord[]): string {
  const first = records[0];
  const env = first?.environment;
  const facts =
    first && env
      ? `${first.date}: ${env.cpu}, ${env.cores} cores, ${env.os}, Node ${env.packages.node}, commit ${env.commit ?? 'unknown'}. ${first.command}`
      : 'no records';
  const plots = plotsOf(records.filter((r): r is Measured => r.status === 'ok' && !r.marks.includes('software')));
  const drawn = (Object.keys(titles) as (keyof typeof titles)[]).flatMap((part) =>
    plots[part].length
      ? [`<h2>${titles[part]}</h2>`, ...plots[part].map(({ svg }) => `<figure>${svg.trim()}</figure>`)]
      : [],
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lowrank benchmarks</title>
<style>${style}</style>
</head>
<body>
<h1>lowrank benchmarks</h1>
<p>${escaped(facts)}</p>
${drawn.join('\n')}
<h2>All records</h2>
<table><tr><th>suite</th><th>case</th><th>on</th><th>median</th><th>p20…p80</th><th>rate</th><th>share</th><th>peak</th><th>samples</th></tr>
${records.map(row).join('\n')}
</table>
</body>
</html>
`;
}
