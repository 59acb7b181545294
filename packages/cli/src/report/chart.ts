/** A point of a curve. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Dots of a braille cell by column and row. */
const dots = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;

/** A curve for a terminal, in braille dots, with its extremes beside it. */
export function chart(
  points: readonly Point[],
  options: { width?: number; height?: number; label?: string } = {},
): string {
  const { width = 60, height = 10, label = '' } = options;
  const seen = points.filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
  if (seen.length < 2) return '';
  const range = (values: number[]) => [Math.min(...values), Math.max(...values)] as const;
  const [x0, x1] = range(seen.map((p) => p.x));
  const [y0, y1] = range(seen.map((p) => p.y));
  const cells = Array.from({ length: height }, () => new Array<number>(width).fill(0));
  const place = (p: Point) => ({
    i: Math.round(((p.x - x0) / (x1 - x0 || 1)) * (2 * width - 1)),
    j: Math.round((1 - (p.y - y0) / (y1 - y0 || 1)) * (4 * height - 1)),
  });
  const set = (i: number, j: number) => {
    cells[j >> 2]![i >> 1]! |= dots[(i & 1) as 0 | 1][(j & 3) as 0 | 1 | 2 | 3];
  };
  let last = place(seen[0]!);
  for (const p of seen) {
    const next = place(p);
    const n = Math.max(1, Math.abs(next.i - last.i), Math.abs(next.j - last.j));
    for (let k = 0; k <= n; k++)
      set(Math.round(last.i + ((next.i - last.i) * k) / n), Math.round(last.j + ((next.j - last.j) * k) / n));
    last = next;
  }
  const digits = (y: number) => y.toPrecision(3).padStart(8);
  const lines = cells.map((row, i) => {
    const edge = i === 0 ? digits(y1) : i === height - 1 ? digits(y0) : ' '.repeat(8);
    return `${edge} ┤${row.map((c) => String.fromCharCode(0x2800 + c)).join('')}`;
  });
  const axis = `${' '.repeat(9)}└${'─'.repeat(width)}\n${' '.repeat(10)}${String(x0).padEnd(width - String(x1).length)}${x1}`;
  return `${label ? `${' '.repeat(10)}${label}\n` : ''}${lines.join('\n')}\n${axis}`;
}

/** A running mean, so that a noisy curve can be read. */
export function smooth(points: readonly Point[], window: number): Point[] {
  const out: Point[] = [];
  let sum = 0;
  for (const [i, p] of points.entries()) {
    sum += p.y - (i >= window ? points[i - window]!.y : 0);
    out.push({ x: p.x, y: sum / Math.min(i + 1, window) });
  }
  return out;
}
