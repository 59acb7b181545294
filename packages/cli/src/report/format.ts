const units: Readonly<Record<string, number>> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** `8GiB`, `512 MiB`, `8G`, `1.5GB` (powers of 1000), `4096` → bytes; undefined where it is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?b)?|b)?\s*$/i.exec(text);
  if (!match) return undefined;
  const [, number, unit, tail] = match;
  if (!unit) return Number(number);
  const decimal = tail?.toLowerCase() === 'b';
  const power = { k: 1, m: 2, g: 3, t: 4 }[unit.toLowerCase()]!;
  return Number(number) * (decimal ? 1000 ** power : units[unit.toLowerCase()]!);
}

/** 1234567 → `1.2 MiB` */
export function bytes(n: number): string {
  const [unit, size] =
    n >= 2 ** 30 ? ['GiB', 2 ** 30] : n >= 2 ** 20 ? ['MiB', 2 ** 20] : n >= 2 ** 10 ? ['KiB', 2 ** 10] : ['B', 1];
  const value = n / (size as number);
  return `${value >= 100 || size === 1 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)} ${unit}`;
}

/** 4884480 → `4.88 M` */
export function count(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} B`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)} M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)} K`;
  return String(n);
}

/** Seconds → `1:02:03`, `4:05`, `12 s` */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const two = (n: number) => String(n).padStart(2, '0');
  const hours = Math.floor(s / 3600);
  return hours ? `${hours}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

/** A rate of tokens: `1,234 tok/s` */
export function rate(tokensPerSecond: number): string {
  return `${tokensPerSecond >= 100 ? Math.round(tokensPerSecond).toLocaleString('en-US') : tokensPerSecond.toPrecision(2)} tok/s`;
}

export function percent(share: number, digits = 1): string {
  return `${(share * 100).toFixed(digits)} %`;
}

/** A command to type again, with quotes where a shell needs them. */
export function shell(words: readonly string[]): string {
  return words.map((w) => (/^[\w@%+=:,./-]+$/.test(w) ? w : `'${w.replaceAll("'", "'\\''")}'`)).join(' ');
}

/** A command of lowrank to type next, as this one was: through npx, or a script of npm, or by its name. */
export function ownCommand(...words: readonly string[]): string {
  return shell([...(process.env.npm_command ? ['npx'] : []), 'lowrank', ...words]);
}

/** Rows as columns, the first one flush left, the others flush right. */
export function table(rows: readonly (readonly string[])[], indent = '  '): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map(
      (row) =>
        indent +
        row
          .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]! + 3)))
          .join('')
          .trimEnd(),
    )
    .join('\n');
}
