import type { BenchRecord, Measured } from './record.ts';
import { shortName } from './report/format.ts';
import { growthExponent } from './statistics.ts';

const axes = ['length', 'batch', 'rank', 'layers'] as const;
export type Axis = (typeof axes)[number];

/** Records of one training step that differ in one size alone. */
export interface Growth {
  readonly axis: Axis;
  /** What is the same in all of them: `qlora smollm2-135m, batch 1, … on cpu`. */
  readonly title: string;
  readonly points: readonly { readonly at: number; readonly record: Measured }[];
  /** e of time = c·xᵉ and of the peak of device memory, by least squares on logarithms over all points. */
  readonly timeExponent: number;
  readonly peakExponent: number | undefined;
}

const peakOf = (r: Measured) => r.figures.peakBytes;

/** Every series of three sizes or more. Of several records of one size the last counts. */
export function growths(records: readonly BenchRecord[]): Growth[] {
  const out: Growth[] = [];
  for (const axis of axes) {
    const series = new Map<string, Map<number, Measured>>();
    for (const r of records) {
      const at = r.shape?.[axis];
      if (r.status !== 'ok' || r.suite !== 'train' || typeof at !== 'number') continue;
      const { [axis]: _, model, method, dtype, ...rest } = r.shape!;
      const same = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
      const title = `${method} ${model}, ${same.join(', ')}, ${dtype} on ${shortName(r)} (${r.contender.device})`;
      if (!series.has(title)) series.set(title, new Map());
      series.get(title)!.set(at, r);
    }
    for (const [title, byAt] of series) {
      if (byAt.size < 3) continue;
      const points = [...byAt].sort(([a], [b]) => a - b).map(([at, record]) => ({ at, record }));
      const peaks = points.flatMap(({ at, record }) => (peakOf(record) ? [[at, peakOf(record)!] as const] : []));
      out.push({
        axis,
        title,
        points,
        timeExponent: growthExponent(points.map(({ at, record }) => [at, record.median])),
        peakExponent: peaks.length === points.length ? growthExponent(peaks) : undefined,
      });
    }
  }
  return out;
}

/** `time ~ length^0.97 from 64 to 1024, peak memory ~ length^0.61`. */
export function growthWords({ axis, points, timeExponent, peakExponent }: Growth): string {
  const range = `from ${points[0]!.at} to ${points.at(-1)!.at}`;
  const peak = peakExponent === undefined ? '' : `, peak memory ~ ${axis}^${peakExponent.toFixed(2)}`;
  return `time ~ ${axis}^${timeExponent.toFixed(2)}${peak} ${range}`;
}
