/** Kernels of `run.sh selfcheck`, below the harness. */
import type { KernelLine } from '../gpu-lines.ts';
import { digits, time } from './format.ts';
import { markdown } from './markdown.ts';

/** A kernel by its newest run: of its variants there the fastest right one, and what it took in the run before. */
export interface Kernel {
  readonly name: string;
  readonly now: KernelLine;
  readonly before: KernelLine | undefined;
}

/** Variants follow the name behind a comma: `attention forward … bf16, wgmma`. */
const kernelName = (line: KernelLine) => line.name.replace(/, (wgmma|mma|simt|portable)$/, '');

export function newestKernels(lines: readonly KernelLine[]): Kernel[] {
  const told = lines.filter((l) => l.microseconds > 0 && l.right !== false && !l.name.includes('candidate'));
  return [...Map.groupBy(told, kernelName)].map(([name, all]) => {
    // a run is what one command left: its lines have one time
    const runs = [...Map.groupBy(all, (l) => l.at)].sort(([a], [b]) => b.localeCompare(a));
    const best = runs.map(([, variants]) => variants.reduce((a, b) => (b.microseconds < a.microseconds ? b : a)));
    return { name, now: best[0]!, before: best[1] };
  });
}

function rate({ gigabytesPerSecond, teraflops }: KernelLine): string {
  if (teraflops !== undefined) return `${digits(teraflops)} TFLOP/s`;
  return gigabytesPerSecond === undefined ? '' : `${digits(gigabytesPerSecond)} GB/s`;
}

export const kernelTable = (kernels: readonly Kernel[]) =>
  markdown(
    ['kernel', 'median', 'spread', 'rate', 'differs from f64 by', 'commit', 'before'],
    kernels.map(({ name, now, before }) => [
      name,
      time(now.microseconds / 1000),
      now.p20 === undefined
        ? now.fastest
          ? `from ${time(now.fastest / 1000)}`
          : ''
        : `${time(now.p20 / 1000)}…${time(now.p80! / 1000)}`,
      rate(now),
      now.error === undefined ? '' : now.error.toExponential(0),
      now.commit.slice(0, 12),
      before ? time(before.microseconds / 1000) : '',
    ]),
  );

/** Kernels whose newest variant has not reached what it was to reach. */
export const kernelLosses = (kernels: readonly Kernel[]): string[] =>
  kernels.flatMap(({ name, now }) =>
    now.goal !== undefined && now.microseconds > now.goal
      ? [`- Kernel ${name}: ${time(now.microseconds / 1000)}, the goal is ${time(now.goal / 1000)}.`]
      : [],
  );
