import type { BenchRecord, Measured } from '../record.ts';

export function bytes(n: number): string {
  const at = [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const;
  const [unit, size] = at.find(([, s]) => n >= s) ?? ['B', 1];
  return `${digits(n / size)} ${unit}`;
}

/** Three figures that count. */
export function digits(n: number): string {
  if (!Number.isFinite(n)) return '–';
  if (n !== 0 && (Math.abs(n) >= 1e6 || Math.abs(n) < 1e-3)) return n.toExponential(2);
  return Math.abs(n) >= 100 ? Math.round(n).toLocaleString('en-US') : String(Number(n.toPrecision(3)));
}

export function time(ms: number): string {
  return ms >= 1000 ? `${digits(ms / 1000)} s` : ms >= 1 ? `${digits(ms)} ms` : `${digits(ms * 1000)} µs`;
}

/** What a record does in a second, in the unit that its suite is about. */
export function rateOf(r: Measured): { value: number; unit: string } {
  const seconds = r.median / 1000;
  const { tokens, flops, bytes: moved } = r.work;
  if (tokens !== undefined) return { value: tokens / seconds, unit: 'tokens/s' };
  if (r.ceiling?.of === 'gemm' || (flops !== undefined && !r.ceiling))
    return { value: flops! / seconds / 1e9, unit: 'GFLOP/s' };
  return { value: moved! / seconds / 1e9, unit: 'GB/s' };
}

/** Short name of a contender: a package without its scope. */
export const shortName = (r: BenchRecord) => r.contender.name.replace(/^@[^/]+\//, '').replace(/^.*[/\\]/, '');

/** A record without a speed: why, in a word. */
export const statusWord = { wrong: 'WRONG RESULTS', failed: 'FAILED', absent: 'absent', refused: 'left out' } as const;

/** Rows as columns, the first one flush left. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) =>
      `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]! + 2))).join('')}`.trimEnd(),
    )
    .join('\n');
}
