import { escaped } from 'lowrank/page';

/** A bar of a chart, with what stands at its end. */
export interface Bar {
  readonly value: number;
  readonly words: string;
}

export interface BarGroup {
  readonly label: string;
  /** By series; undefined where it has none. */
  readonly bars: readonly (Bar | undefined)[];
}

const colours = ['#2f6fdf', '#e0703a', '#5b9c4a', '#a04fc4', '#c2a52a', '#3aa6a0'];
const open = (width: number, height: number, title: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" font-family="system-ui, sans-serif" font-size="12" fill="#808890"><title>${escaped(title)}</title>`;
const text = (x: number, y: number, words: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escaped(words)}</text>`;

function legend(series: readonly string[], x: number, y: number): string {
  return series
    .map((name, i) =>
      text(x + (i % 3) * 210, y + 16 * Math.floor(i / 3), `■ ${name}`, ` fill="${colours[i % colours.length]}"`),
    )
    .join('');
}

/** Horizontal bars, a group a case; a logarithmic axis where the largest is over a hundred times the smallest. */
export function barChart(title: string, series: readonly string[], groups: readonly BarGroup[]): string {
  const widest = (texts: readonly string[]) => 7 * Math.max(...texts.map((t) => t.length));
  const left = Math.ceil(16 + widest(groups.map((g) => g.label)));
  const right = Math.ceil(12 + widest(groups.flatMap((g) => g.bars.map((b) => b?.words ?? ''))));
  const [room, bar] = [380, 13];
  const width = left + room + right;
  const values = groups.flatMap((g) => g.bars.flatMap((b) => (b ? [b.value] : [])));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const logarithmic = most > 100 * least && least > 0;
  const length = (v: number) =>
    logarithmic ? (room * Math.log((2 * v) / least)) / Math.log((2 * most) / least) : (room * v) / (most || 1);
  const head = 44 + 16 * Math.ceil(series.length / 3);
  let y = head;
  const rows = groups.map(({ label, bars }) => {
    const top = y;
    const drawn = bars.map((b, i) => {
      if (!b) return '';
      const at = y;
      y += bar + 1;
      return `<rect x="${left}" y="${at}" width="${Math.max(1, length(b.value)).toFixed(1)}" height="${bar}" fill="${colours[i % colours.length]}" fill-opacity=".75"/>${text(left + length(b.value) + 5, at + bar - 2, b.words)}`;
    });
    y += 7;
    return text(left - 8, (top + y - 7) / 2 + 4, label, ' text-anchor="end"') + drawn.join('');
  });
  return `${open(width, y + 6, title)}${text(8, 18, title + (logarithmic ? ' (logarithmic)' : ''), ' font-weight="600"')}${legend(series, 8, 38)}${rows.join('')}</svg>\n`;
}

export interface Curve {
  readonly label: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Curves on logarithmic axes, on which y = c·xᵉ is a line of slope e. */
export function logChart(title: string, xName: string, yName: string, curves: readonly Curve[]): string {
  const [width, height, left, top] = [900, 320 + 16 * curves.length, 70, 40];
  const bottom = 300;
  const all = curves.flatMap((c) => c.points);
  const span = (at: 0 | 1) => {
    const logs = all.map((p) => Math.log(p[at]));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    return { low, size: high - low || 1 };
  };
  const [sx, sy] = [span(0), span(1)];
  const x = (v: number) => left + ((Math.log(v) - sx.low) / sx.size) * (width - left - 30);
  const y = (v: number) => bottom - 20 - ((Math.log(v) - sy.low) / sy.size) * (bottom - top - 40);
  const ticks = [...new Set(all.map(([v]) => v))]
    .sort((a, b) => a - b)
    .map((v) => text(x(v), bottom, String(v), ' text-anchor="middle"'));
  const ends = [Math.exp(sy.low), Math.exp(sy.low + sy.size)].map((v) =>
    text(left - 8, y(v) + 4, v >= 100 ? v.toFixed(0) : v.toPrecision(3), ' text-anchor="end"'),
  );
  const lines = curves.map(({ label, points }, i) => {
    const colour = colours[i % colours.length];
    const path = points.map(([px, py], k) => `${k ? 'L' : 'M'}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join('');
    const dots = points
      .map(([px, py]) => `<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="3" fill="${colour}"/>`)
      .join('');
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots}${text(left, bottom + 34 + 16 * i, `■ ${label}`, ` fill="${colour}"`)}`;
  });
  return `${open(width, height + 24, title)}${text(8, 18, title, ' font-weight="600"')}${text(8, top, yName)}${text(width - 30, bottom + 16, xName, ' text-anchor="end"')}${ticks.join('')}${ends.join('')}${lines.join('')}</svg>\n`;
}
