/** Lines of scripts/gpu/run.sh as a section of docs/benchmarks.md. */
import { type GpuLines, type KernelLine, type QualityLine, readGpuLines, type StepLine } from '../gpu-lines.ts';
import { summarize } from '../statistics.ts';
import { digits, time } from './format.ts';
import { markdown } from './markdown.ts';
import type { Written } from './record-section.ts';

/** Files by the GPU that their lines name, oldest first. */
export function byGpu(paths: readonly string[]): Map<string, GpuLines[]> {
  const out = new Map<string, GpuLines[]>();
  for (const lines of paths.map(readGpuLines).sort((a, b) => a.at.localeCompare(b.at))) {
    if (!out.has(lines.gpu)) out.set(lines.gpu, []);
    out.get(lines.gpu)!.push(lines);
  }
  return out;
}

/** By name, the last line counts. */
const latest = <T>(lines: readonly T[], name: (line: T) => string): T[] => [
  ...new Map(lines.map((l) => [name(l), l])).values(),
];

function rate({ gigabytesPerSecond, teraflops }: KernelLine): string {
  if (teraflops !== undefined) return `${digits(teraflops)} TFLOP/s`;
  return gigabytesPerSecond === undefined ? '' : `${digits(gigabytesPerSecond)} GB/s`;
}

const kernelTable = (lines: readonly KernelLine[]) =>
  markdown(
    ['kernel', 'median', 'spread', 'rate', 'differs from f64 by', 'commit'],
    lines.map((l) => [
      l.name,
      time(l.microseconds / 1000),
      l.p20 === undefined
        ? l.fastest
          ? `from ${time(l.fastest / 1000)}`
          : ''
        : `${time(l.p20 / 1000)}…${time(l.p80! / 1000)}`,
      rate(l),
      l.error === undefined ? '' : l.error.toExponential(0),
      l.commit.slice(0, 12),
    ]),
  );

const stepTable = (lines: readonly StepLine[]) =>
  markdown(
    ['step', 'on', 'median', 'p20…p80', 'tokens/s', 'peak', 'commit'],
    lines.map((l) => {
      const { median, p20, p80 } = summarize(l.milliseconds);
      return [
        l.case,
        `${l.backend}, ${l.dtype}`,
        time(median),
        `${time(p20)}…${time(p80)}`,
        digits(l.tokensPerSecond),
        `${digits(l.peakGiB)} GiB`,
        l.commit.slice(0, 12),
      ];
    }),
  );

const qualityLines = (lines: readonly QualityLine[]) =>
  markdown(
    ['method', 'client', 'dtype', 'on', 'held-out loss', 'commit'],
    lines.map((l) => [
      l.method,
      l.client,
      l.dtype,
      l.where,
      [l.evalBefore, l.evalAfter].flatMap((v) => (v === undefined ? [] : [v.toFixed(4)])).join(' → '),
      l.commit,
    ]),
  );

/** Adds the section of a machine: its kernels, steps and losses, each by its last line. */
export function gpuSection(files: readonly GpuLines[], name: string, written: Written): void {
  const kernels = latest(
    files.flatMap((f) => f.kernels.filter((l) => l.microseconds > 0 && !l.name.includes('candidate'))),
    (l) => l.name,
  );
  const steps = latest(
    files.flatMap((f) => f.steps),
    (l) => l.case,
  );
  const qualities = files.flatMap((f) => f.qualities);
  const [line] = [...kernels, ...steps, ...qualities];
  if (!line) return;
  const commands = [...new Set([...kernels, ...steps].map((l) => l.command))];
  const goals = kernels.filter((l) => l.goal !== undefined && l.microseconds > l.goal);
  written.text.push(
    `## ${name}: kernels`,
    `${line.gpu}, driver ${line.driver}. Kernels at the sizes of an 8B model, timed by device events within a graph, operands rotating through four times the L2.`,
    `To repeat: \`node scripts/gpu/pack.mjs benchmarks/src/steps-main.ts\`, then on the machine\n\n\`\`\`sh\n${commands.join('\n')}\n\`\`\``,
    ...(kernels.length ? [kernelTable(kernels)] : []),
    ...(steps.length ? ['### Steps', stepTable(steps)] : []),
    ...(qualities.length
      ? [
          '### GSM8K',
          `${qualities[0]!.model}. ${qualities[0]!.data}. ${qualities[0]!.recipe}.`,
          qualityLines(qualities),
        ]
      : []),
    ...(goals.length
      ? [
          '### Where we lose',
          goals
            .map((l) => `- ${l.name}: ${time(l.microseconds / 1000)}, the goal is ${time(l.goal! / 1000)}.`)
            .join('\n'),
        ]
      : []),
  );
}
