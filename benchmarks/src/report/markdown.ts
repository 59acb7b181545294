/** Tables of docs/benchmarks.md. */
import type { QualityLine } from '../gpu-lines.ts';
import { type Growth, growthWords } from '../growth.ts';
import type { Measured } from '../record.ts';
import { compareSummaries, summarize } from '../statistics.ts';
import { bytes, digits, rateOf, shortName, time } from './format.ts';

export const markdown = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');

const count = (n: number) => n.toLocaleString('en-US');

/** What the processor did in the time that this process had it: steadier where other programs run. */
function perCpuSecond(r: Measured): string {
  if (!r.cpuSamples || r.contender.features.some((f) => f.startsWith('sm_'))) return '';
  const { median } = summarize(r.cpuSamples);
  return median > 0 ? digits((rateOf(r).value * r.median) / median) : '';
}

/** From the reference at small sizes, from other kernels at its own: the larger. */
function difference({ figures: { difference: small, differenceAtShape: whole } }: Measured): string {
  const known = [small, whole].filter((d) => d !== undefined);
  return known.length ? Math.max(...known).toExponential(0) : '';
}

export function opsTable(records: readonly Measured[]): string {
  return markdown(
    ['case', 'on', 'median', 'p20…p80', 'runs', 'rate', 'a CPU-second', 'of ceiling', 'differs by'],
    records.map((r) => {
      const { value, unit } = rateOf(r);
      return [
        r.case,
        `${shortName(r)} (${r.contender.device})`,
        time(r.median),
        `${time(r.p20)}…${time(r.p80)}`,
        String(r.samples.length),
        `${digits(value)} ${unit}`,
        perCpuSecond(r),
        r.ceiling ? `${Math.round(100 * r.ceiling.share)} % ${r.ceiling.of}` : '',
        difference(r),
      ];
    }),
  );
}

export function byOp(r: Measured): string {
  const ops = Object.entries(r.figures)
    .flatMap(([name, ms]) => (/^op\..*\.milliseconds$/.test(name) ? [[name.slice(3, -13), ms] as const] : []))
    .sort(([, a], [, b]) => b - a);
  const sum = ops.reduce((total, [, ms]) => total + ms, 0);
  const rows = ops
    .slice(0, 10)
    .map(([op, ms]) => [op, digits(r.figures[`op.${op}.calls`]!), time(ms), `${((100 * ms) / sum).toFixed(1)} %`]);
  return `${r.case} on ${shortName(r)}, milliseconds by the clock in kernels, a step:\n\n${markdown(['op', 'calls', 'time', 'share'], rows)}`;
}

export const loadTable = (records: readonly Measured[]) =>
  markdown(
    [
      'case',
      'on',
      'median',
      'rate of the file',
      'weights',
      'host growth (beside weights)',
      'first step',
      'adapter saved',
      'model saved',
    ],
    records.map((r) => [
      r.case,
      shortName(r),
      time(r.median),
      `${digits(rateOf(r).value)} GB/s`,
      bytes(r.figures.weightBytes!),
      `${bytes(r.figures.hostPeakBytes!)} (${bytes(r.figures.hostBesideWeightsBytes!)})`,
      time(r.figures.firstStepMilliseconds!),
      `${time(r.figures.adapterSaveMilliseconds!)} (${bytes(r.figures.adapterBytes!)})`,
      r.figures.modelBytes ? `${time(r.figures.modelSaveMilliseconds!)} (${bytes(r.figures.modelBytes)})` : '',
    ]),
  );

export const qualityTable = (records: readonly Measured[]) =>
  markdown(
    [
      ...['method', 'on', 'trainable', 'weights', 'gradients', 'optimizer', 'activations', 'tokens/s', 'output'],
      ...['held-out loss', 'exact answers', 'steps'],
    ],
    records.map((r) => {
      const { figures: f } = r;
      return [
        r.case,
        shortName(r),
        `${count(f.trainable!)} (${(100 * f.trainableShare!).toFixed(2)} %)`,
        ...['weights', 'gradients', 'optimizer', 'activations'].map((c) => bytes(f[`bytes.${c}`]!)),
        r.marks.includes('busy') ? 'busy host' : digits(rateOf(r).value),
        bytes(f.outputBytes!),
        `${f.heldOutLossBefore!.toFixed(3)} → ${f.heldOutLoss!.toFixed(3)}`,
        `${(100 * f.score!).toFixed(0)} % of ${f.questions}`,
        String(f.steps),
      ];
    }),
  );

/** Held-out losses of clients, a table a recipe. */
export function qualityLines(lines: readonly QualityLine[]): string {
  const byRecipe = Map.groupBy(lines, ({ model, data, recipe }) => `${model}. ${data}. ${recipe}.`);
  return [...byRecipe].map(([recipe, group]) => `${recipe}\n\n${qualityRows(group)}`).join('\n\n');
}

function qualityRows(lines: readonly QualityLine[]): string {
  const rows = lines.map((l) => [
    l.method,
    l.client,
    l.dtype,
    l.where,
    [l.evalBefore, l.evalAfter].flatMap((v) => (v === undefined ? [] : [v.toFixed(4)])).join(' → '),
    l.trainSeconds === undefined ? '' : `${digits(l.trainSeconds)} s`,
    l.commit,
  ]);
  return markdown(['method', 'client', 'dtype', 'on', 'held-out loss', 'training', 'commit'], rows);
}

/** Cases of one run where a peer was faster, or too near to tell, a line each. */
export function losses(records: readonly Measured[]): string[] {
  const lines: string[] = [];
  for (const peer of records.filter((r) => r.contender.kind === 'peer' && !r.case.startsWith('ceiling')))
    for (const ours of records.filter(
      (r) => r.run === peer.run && r.case === peer.case && r.contender.kind === 'backend',
    )) {
      const { ratio, low, high, differs } = compareSummaries(peer, ours);
      if (ratio <= 1 && differs) continue;
      const word = differs ? `takes ${digits(ratio)} times as long` : `is not told apart (ratio ${digits(ratio)})`;
      lines.push(
        `- ${ours.case}: ${shortName(ours)} against ${shortName(peer)} ${word}; the spread allows ${digits(low)} to ${digits(high)}.`,
      );
    }
  return lines;
}

/** Fitted exponents of each series. */
export const growthTable = (all: readonly Growth[]) =>
  markdown(
    ['series', 'fitted'],
    all.map((g) => [g.title, growthWords(g)]),
  );

/** What the table of methods says of the field's two rules of thumb. */
export function methodWords(records: readonly Measured[]): string {
  const of = (method: string) => records.find((r) => r.case === method);
  const lines: string[] = [];
  for (const task of [...new Set(records.map((r) => r.case.split(' ')[0]!))]) {
    const loras = records.filter((r) => r.case.startsWith(`${task} lora`));
    const [dense, nf4] = [of(`${task} lora r 16`), of(`${task} qlora nf4 r 16`)];
    if (loras.length) {
      const shares = loras.map((r) => 100 * r.figures.trainableShare!);
      const [least, most] = [Math.min(...shares), Math.max(...shares)];
      lines.push(
        `- ${task} (${count(loras[0]!.figures.parameters! - loras[0]!.figures.trainable!)} weights): LoRA on all linear layers trains ${least.toFixed(2)}${most > least ? ` to ${most.toFixed(2)}` : ''} % of the numbers. The share falls as a model grows wider: a pair of rank r has r·(in + out) numbers beside in·out.`,
      );
    }
    if (dense && nf4) {
      const [d, q] = [dense.figures['bytes.weights']!, nf4.figures['bytes.weights']!];
      lines.push(
        `- ${task}: NF4 takes ${((100 * q) / d).toFixed(0)} % of the base's bytes as loaded (${bytes(q)} of ${bytes(d)}); embedding, head and norms stay as they are.`,
      );
    }
  }
  return lines.join('\n');
}
