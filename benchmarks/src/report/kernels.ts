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

/** Measured through WebGPU by packages/backend-webgpu/bench, which says by what clock. Other libraries stand in such lines with their name. */
const isWebGpu = (line: KernelLine) => line.timer !== undefined;

/** Lines of a search: choices of cuBLASLt's, kernels by the names of their functions. They are records of what was tried, not of what runs. */
const isTrial = ({ name }: KernelLine) => /candidate|, choice \d/.test(name) || /^[a-z0-9]+_\w+ /.test(name);

export function newestKernels(lines: readonly KernelLine[]): Kernel[] {
  const told = lines.filter((l) => l.microseconds > 0 && l.right !== false && !isTrial(l) && !isWebGpu(l));
  const fastest = (list: readonly KernelLine[]) =>
    list.length ? list.reduce((a, b) => (b.microseconds < a.microseconds ? b : a)) : undefined;
  return [...Map.groupBy(told, kernelName)].map(([name, all]) => {
    const newest = new Map([...all].sort((a, b) => a.at.localeCompare(b.at)).map((l) => [l.name, l]));
    const now = fastest([...newest.values()])!;
    return { name, now, before: fastest(all.filter((l) => l.at < now.at)) };
  });
}

/** A kernel of ours through WebGPU: its newest line, the one before, and what other libraries took through the same Dawn. */
export interface WebGpuKernel extends Kernel {
  readonly others: readonly { readonly by: string; readonly line: KernelLine }[];
}

export function webGpuKernels(lines: readonly KernelLine[]): WebGpuKernel[] {
  const own = lines.filter(isWebGpu).sort((a, b) => a.at.localeCompare(b.at));
  const ours = own.filter((l) => l.library === undefined);
  const others = [...new Map(own.filter((l) => l.library !== undefined).map((l) => [l.name, l])).values()];
  return [...Map.groupBy(ours, ({ name }) => name)].map(([name, all]) => ({
    name,
    now: all.at(-1)!,
    before: all.findLast((l) => l.commit !== all.at(-1)!.commit),
    others: others
      .filter((l) => l.name.endsWith(` ${name}`))
      .map((line) => ({ by: line.name.slice(0, -name.length - 1), line })),
  }));
}

export const webGpuTable = (kernels: readonly WebGpuKernel[]) =>
  markdown(
    ['kernel', 'median', 'spread', 'rate', 'goal', 'others', 'differs from f64 by', 'commit', 'before'],
    kernels.map(({ name, now, before, others }) => [
      name,
      time(now.microseconds / 1000),
      now.p20 === undefined ? '' : `${time(now.p20 / 1000)}…${time(now.p80! / 1000)}`,
      rate(now),
      now.goal === undefined ? '' : time(now.goal / 1000),
      others.map(({ by, line }) => `${by} ${time(line.microseconds / 1000)}`).join(', '),
      now.error === undefined ? '' : now.error.toExponential(0),
      now.commit.slice(0, 12),
      before ? time(before.microseconds / 1000) : '',
    ]),
  );

/** Kernels that have not reached their goal, or that another library is ahead of. */
export const webGpuLosses = (kernels: readonly WebGpuKernel[]): string[] =>
  kernels.flatMap(({ name, now, others }) => [
    ...(now.goal !== undefined && now.microseconds > now.goal
      ? [`- WebGPU, ${name}: ${time(now.microseconds / 1000)}, the goal is ${time(now.goal / 1000)}.`]
      : []),
    ...others
      .filter(({ line }) => line.microseconds < now.microseconds)
      .map(
        ({ by, line }) =>
          `- WebGPU, ${name}: ${time(now.microseconds / 1000)}, ${by} takes ${time(line.microseconds / 1000)}.`,
      ),
  ]);

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
