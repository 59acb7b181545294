/** Training steps of the harness and of `steps-main`, the newest of each case with what it took before. */
import type { StepLine } from '../gpu-lines.ts';
import type { Measured } from '../record.ts';
import { summarize } from '../statistics.ts';
import { bytes, digits, rateOf, shortName, time } from './format.ts';
import { markdown } from './markdown.ts';

export interface StepRow {
  readonly name: string;
  readonly on: string;
  readonly kind: 'backend' | 'peer';
  readonly date: string;
  readonly median: number;
  readonly p20: number;
  readonly p80: number;
  readonly tokensPerSecond: number;
  readonly peakBytes: number | undefined;
  readonly forecastBytes: number | undefined;
  readonly residentBytes: number | undefined;
}

const models: Readonly<Record<string, string>> = { smol: 'smollm2-135m', '1b': 'llama-3.2-1b', '8b': 'llama-3.1-8b' };

/** `8b-qlora-4-block-offload` of steps-main as the train suite calls it: `qlora llama-3.1-8b 4×2048 r 16 recompute block offload`. */
export function suiteName(name: string): string {
  const found = /^(smol|1b|8b)-(lora|qlora)-(\d+)(?:x(\d+))?(?:-(none|block|selective))?(-offload)?$/.exec(name);
  if (!found) return name;
  const [, model, method, batch, length = '2048', how, offload] = found;
  // the first records name no policy: with offload it was block
  const recompute = (how ?? (model === '1b' || offload ? 'block' : 'none')) + (offload ? ' offload' : '');
  return `${method} ${models[model!]} ${batch}×${length} r 16 recompute ${recompute}`;
}

const ofRecord = (r: Measured): StepRow => ({
  name: r.case,
  on: `${shortName(r)} (${r.contender.device})`,
  kind: r.contender.kind,
  date: r.date,
  median: r.median,
  p20: r.p20,
  p80: r.p80,
  tokensPerSecond: rateOf(r).value,
  peakBytes: r.figures.peakBytes,
  forecastBytes: r.figures.forecastBytes,
  residentBytes: r.figures.peakResidentBytes,
});

const ofLine = (l: StepLine): StepRow => ({
  ...summarize(l.milliseconds),
  name: suiteName(l.case),
  on: `${l.backend} (${l.gpu})`,
  kind: 'backend',
  date: l.at,
  tokensPerSecond: l.tokensPerSecond,
  peakBytes: l.peakGiB * 2 ** 30,
  forecastBytes: undefined,
  residentBytes: undefined,
});

export interface Step {
  readonly now: StepRow;
  readonly before: StepRow | undefined;
}

/** `llama-3.1-8b` of a case's name. */
export const modelOf = (name: string) => name.split(' ')[1] ?? name;

/** By case and contender the newest, with the one before it; the cases of a model together. */
export function newestSteps(records: readonly Measured[], lines: readonly StepLine[]): Step[] {
  const rows = [...records.map(ofRecord), ...lines.map(ofLine)];
  const steps = [...Map.groupBy(rows, (r) => `${r.name}\n${r.on}`).values()].map((all): Step => {
    const [now, before] = [...all].sort((a, b) => b.date.localeCompare(a.date));
    return { now: now!, before };
  });
  return [...Map.groupBy(steps, ({ now }) => modelOf(now.name)).values()].flat();
}

export const stepTable = (steps: readonly Step[]) => {
  const resident =
    steps.some(({ now }) => now.residentBytes && !now.peakBytes) || steps.every(({ now }) => now.residentBytes);
  return markdown(
    [
      ...['step', 'on', 'median', 'p20…p80', 'tokens/s', 'device peak', 'forecast ÷ peak'],
      ...(resident ? ['resident, peak'] : []),
      'before',
    ],
    steps.map(({ now: r, before }) => [
      r.name,
      r.on,
      time(r.median),
      `${time(r.p20)}…${time(r.p80)}`,
      digits(r.tokensPerSecond),
      r.peakBytes ? bytes(r.peakBytes) : '',
      r.peakBytes && r.forecastBytes ? (r.forecastBytes / r.peakBytes).toFixed(3) : '',
      ...(resident ? [r.residentBytes ? bytes(r.residentBytes) : ''] : []),
      before ? `${time(before.median)} (${before.date.slice(0, 10)})` : '',
    ]),
  );
};
