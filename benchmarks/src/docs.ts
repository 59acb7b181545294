/** Writes docs/benchmarks.md from the records of this package: node --conditions=source benchmarks/src/docs.ts [--check]. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchRecord, type Measured, readRecords } from './record.ts';
import { bytes, digits, rateOf, shortName, statusWord, time } from './report/format.ts';
import { compareSummaries, summarize } from './statistics.ts';

const folder = join(import.meta.dirname, '../records');
const target = join(import.meta.dirname, '../../docs/benchmarks.md');

const markdown = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');

/** By case and contender, the last record counts. */
function latest(records: readonly BenchRecord[]): BenchRecord[] {
  return [
    ...new Map(records.map((r) => [`${r.suite}\n${r.case}\n${r.contender.name}\n${r.contender.device}`, r])).values(),
  ];
}

/** What the processor did in the time that this process had it: steadier where other programs run. */
function perCpuSecond(r: Measured): string {
  if (!r.cpuSamples || r.contender.features.some((f) => f.startsWith('sm_'))) return '';
  const { median } = summarize(r.cpuSamples);
  return median > 0 ? digits((rateOf(r).value * r.median) / median) : '';
}

function opsTable(records: readonly Measured[]): string {
  return markdown(
    ['case', 'on', 'median', 'p20…p80', 'rate', 'a CPU-second', 'of ceiling', 'load'],
    records.map((r) => {
      const { value, unit } = rateOf(r);
      return [
        r.case,
        `${shortName(r)} (${r.contender.device})`,
        time(r.median),
        `${time(r.p20)}…${time(r.p80)}`,
        `${digits(value)} ${unit}`,
        perCpuSecond(r),
        r.ceiling ? `${Math.round(100 * r.ceiling.share)} % ${r.ceiling.of}` : '',
        digits(r.environment.load),
      ];
    }),
  );
}

function trainTable(records: readonly Measured[]): string {
  return markdown(
    [
      'step',
      'on',
      'median',
      'p20…p80',
      'tokens/s',
      'tokens a CPU-second',
      'device peak (forecast)',
      'resident (peak)',
      'load',
    ],
    records.map((r) => [
      r.case,
      `${shortName(r)} (${r.contender.device})`,
      time(r.median),
      `${time(r.p20)}…${time(r.p80)}`,
      digits(rateOf(r).value),
      perCpuSecond(r),
      r.figures.peakBytes ? `${bytes(r.figures.peakBytes)} (${bytes(r.figures.forecastBytes!)})` : '',
      `${bytes(r.figures.residentBytes!)} (${bytes(r.figures.peakResidentBytes!)})`,
      digits(r.environment.load),
    ]),
  );
}

function byOp(r: Measured): string {
  const ops = Object.entries(r.figures)
    .flatMap(([name, ms]) => (/^op\..*\.milliseconds$/.test(name) ? [[name.slice(3, -13), ms] as const] : []))
    .sort(([, a], [, b]) => b - a);
  const sum = ops.reduce((total, [, ms]) => total + ms, 0);
  const rows = ops
    .slice(0, 10)
    .map(([op, ms]) => [op, digits(r.figures[`op.${op}.calls`]!), time(ms), `${((100 * ms) / sum).toFixed(1)} %`]);
  return `${r.case} on ${shortName(r)}, milliseconds by the clock in kernels, a step:\n\n${markdown(['op', 'calls', 'time', 'share'], rows)}`;
}

const loadTable = (records: readonly Measured[]) =>
  markdown(
    [
      'case',
      'on',
      'median',
      'rate of the file',
      'weights',
      'host growth',
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
      bytes(r.figures.hostPeakBytes!),
      time(r.figures.firstStepMilliseconds!),
      `${time(r.figures.adapterSaveMilliseconds!)} (${bytes(r.figures.adapterBytes!)})`,
      `${time(r.figures.modelSaveMilliseconds!)} (${bytes(r.figures.modelBytes!)})`,
    ]),
  );

const qualityTable = (records: readonly Measured[]) =>
  markdown(
    [
      'method',
      'trainable',
      'weights',
      'gradients',
      'optimizer',
      'activations',
      'tokens/s',
      'output',
      'held-out loss',
      'exact answers',
      'steps',
    ],
    records.map(({ figures: f, ...r }) => [
      r.case,
      `${digits(f.trainable!)} (${(100 * f.trainableShare!).toFixed(2)} %)`,
      ...['weights', 'gradients', 'optimizer', 'activations'].map((c) => bytes(f[`bytes.${c}`]!)),
      digits(rateOf({ ...r, figures: f }).value),
      bytes(f.outputBytes!),
      `${f.heldOutLossBefore!.toFixed(3)} → ${f.heldOutLoss!.toFixed(3)}`,
      `${(100 * f.score!).toFixed(0)} % of ${f.questions}`,
      String(f.steps),
    ]),
  );

/** Cases of one run where a peer was faster, or too near to tell. */
function losses(records: readonly Measured[]): string {
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
  return lines.join('\n') || 'In none of the cases that peers were measured on.';
}

/** A record's command without what names files. The first records hold their filter without the quotes that it was typed with. */
function typeable(command: string): string {
  return command
    .replace(/ --(out|html) \S+/g, '')
    .replace(/ --filter ([^'].*?)(?= --|$)/, (whole, text: string) =>
      /\s/.test(text) ? ` --filter '${text}'` : whole,
    );
}

function section(file: string): string {
  const { records } = readRecords(join(folder, file));
  const all = latest(records);
  const ok = all.filter((r) => r.status === 'ok');
  const of = (suite: BenchRecord['suite']) => ok.filter((r) => r.suite === suite);
  const [first] = records;
  if (!first) return '';
  const { cpu, cores, os, packages } = first.environment;
  const commands = [...new Set(records.map((r) => typeable(r.command)))];
  const steps = of('train').filter((r) => Object.keys(r.figures).some((k) => k.startsWith('op.')));
  const part = (title: string, suite: BenchRecord['suite'], make: (r: readonly Measured[]) => string) =>
    of(suite).length ? [`### ${title}`, make(of(suite))] : [];
  const missed = all.flatMap((r) =>
    r.status === 'ok' ? [] : [`- ${r.suite}/${r.case}, ${shortName(r)}: ${statusWord[r.status]}: ${r.reason}`],
  );
  return [
    `## ${file.replace('.jsonl', '')}`,
    `${cpu}, ${cores} cores to use, ${os}, Node ${packages.node}. Recorded ${[...new Set(records.map((r) => r.date.slice(0, 10)))].join(', ')}.`,
    `To repeat:\n\n\`\`\`sh\n${commands.join('\n')}\n\`\`\``,
    ...part('Operations', 'ops', opsTable),
    ...part('Training steps', 'train', trainTable),
    ...steps.map(byOp),
    ...part('Loading and saving', 'load', loadTable),
    ...part('Methods on the bundled model', 'quality', qualityTable),
    '### Where we lose',
    losses(ok),
    ...(missed.length ? ['### Not measured', missed.join('\n')] : []),
  ].join('\n\n');
}

const text = `# Benchmarks

Generated by \`benchmarks/src/docs.ts\` from \`benchmarks/records/\`; figures are not typed in. \`npm run bench\` measures on your machine.

Contenders take turns, a sample each, so that what else a machine does falls on all of them. Operands rotate through more memory than caches
hold; results are compared with the f64 reference on a small shape first. Times are medians with the range from the 20th to the 80th percentile.
Operations and bytes are counted from shapes; the ceiling is a copy of 64 MiB, or a large square product, of the same contender in the same run
(an operand set that stays in a cache can go above a copy's rate). *A CPU-second* divides by the processor time of the process instead of the clock:
on a machine with other work (\`load\`) it is the figure that can be compared. Training steps run in a process each, so that memory is its own.

${readdirSync(folder)
  .filter((f) => f.endsWith('.jsonl'))
  .sort()
  .map(section)
  .join('\n\n')}
`;

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error(
      'docs/benchmarks.md is not what the records say. Run: node --conditions=source benchmarks/src/docs.ts',
    );
    process.exit(1);
  }
} else writeFileSync(target, text);
