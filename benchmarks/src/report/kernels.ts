/** Kernels of `run.sh selfcheck`, below the harness. */
import type { KernelLine } from '../gpu-lines.ts';
import { digits, time } from './format.ts';
import { markdown } from './markdown.ts';

/** A kernel by the newest line of each of its variants: the fastest of them, and the fastest line that is older. */
export interface Kernel {
  readonly name: string;
  readonly now: KernelLine;
  readonly before: KernelLine | undefined;
}

/** Variants follow the name behind a comma, in one word: `attention forward … bf16, wgmma`. */
const kernelName = (line: KernelLine) => line.name.replace(/, \w+$/, '');

/** Lines of a search: choices of cuBLASLt's, kernels by the names of their functions. They are records of what was tried, not of what runs. */
const isTrial = ({ name }: KernelLine) => /candidate|, choice \d/.test(name) || /^[a-z0-9]+_\w+ /.test(name);

export function newestKernels(lines: readonly KernelLine[]): Kernel[] {
  const told = lines.filter((l) => l.microseconds > 0 && l.right !== false && !isTrial(l));
  const fastest = (list: readonly KernelLine[]) =>
    list.length ? list.reduce((a, b) => (b.microseconds < a.microseconds ? b : a)) : undefined;
  return [...Map.groupBy(told, kernelName)].map(([name, all]) => {
    const newest = new Map([...all].sort((a, b) => a.at.localeCompare(b.at)).map((l) => [l.name, l]));
    const now = fastest([...newest.values()])!;
    return { name, now, before: fastest(all.filter((l) => l.at < now.at)) };
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
