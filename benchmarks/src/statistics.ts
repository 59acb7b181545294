/** What is told of a list of samples. */
export interface Summary {
  readonly median: number;
  readonly p20: number;
  readonly p80: number;
}

/** The value below which a share of the samples lies, between neighbours in proportion. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}

export function summarize(samples: readonly number[]): Summary {
  return { median: quantile(samples, 0.5), p20: quantile(samples, 0.2), p80: quantile(samples, 0.8) };
}

export interface Ratio {
  /** New over old time: below 1 is faster. */
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  /** The spread of both does not hold 1. */
  readonly differs: boolean;
}

/** How much longer `now` takes than `before`, with the range that their spreads (p20 to p80) allow. */
export function compareSummaries(before: Summary, now: Summary): Ratio {
  const low = now.p20 / before.p80;
  const high = now.p80 / before.p20;
  return { ratio: now.median / before.median, low, high, differs: low > 1 || high < 1 };
}

/** The exponent e of y = c·xᵉ by least squares on logarithms. */
export function growthExponent(points: readonly (readonly [x: number, y: number])[]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (at: 0 | 1) => logs.reduce((sum, p) => sum + p[at], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  const top = logs.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0);
  return top / logs.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
}
