/** What was checked on a machine beside its speed: suites, sanitizers, faults, memory three ways, checkpoints. */
import type { Checks, GpuLines } from '../gpu-lines.ts';
import { markdown } from './markdown.ts';

/** Of lines with one name the last counts. */
function newest<T>(lines: readonly T[], key: (line: T) => string): T[] {
  return [...new Map(lines.map((line) => [key(line), line])).values()];
}

const gib = (value: number) => `${value.toPrecision(4)} GiB`;
const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
const code = (value: string) => value.slice(0, 12);

/** The section's text; empty where nothing was checked. `files` in the order of their days. */
export function checksText(files: readonly GpuLines[]): string {
  const all = <K extends keyof Checks>(kind: K) => files.flatMap((f) => [...f.checks[kind]]) as Checks[K][number][];
  const suites = newest(all('suite') as Checks['suite'][number][], (l) => l.name);
  const sanitized = newest(
    (all('sanitize') as Checks['sanitize'][number][]).filter((l) => !l.filter),
    (l) => l.tool,
  );
  const faults = newest(
    all('fault') as Checks['fault'][number][],
    (l) => `${l.name} ${l.signal} ${l.step} ${l.milliseconds} ${l.twice}`,
  );
  const memory = newest(all('memory') as Checks['memory'][number][], (l) => l.name);
  const sizes = newest(all('size') as Checks['size'][number][], (l) => l.name);
  const loads = newest(all('checkpoint') as Checks['checkpoint'][number][], (l) => l.name);
  const parts = [
    suites.length + sanitized.length > 0
      ? markdown(
          ['suite', 'under', 'passed', 'failed', 'findings', 'commit'],
          [
            ...suites.map((l) => [l.name, '', String(l.passed), String(l.failed), '', code(l.commit)]),
            ...sanitized.map((l) => [
              'conformance',
              `compute-sanitizer ${l.tool}`,
              String(l.passed),
              '',
              String(l.findings),
              code(l.commit),
            ]),
          ],
        )
      : '',
    faults.length > 0
      ? `Of ${faults.length} faults ${faults.filter((f) => f.ok).length} ended as they must: ${[...new Set(faults.map((f) => f.name))].join('; ')}.${faults.some((f) => !f.ok) ? ` Not: ${faults.flatMap((f) => (f.ok ? [] : [f.name])).join('; ')}.` : ''}`
      : '',
    memory.length > 0
      ? `Peak memory of a step: what the driver misses, what the pool holds and has in use, and what was forecast without running.\n\n${markdown(
          ['step', 'driver', 'pool', 'forecast', 'off by', 'in use', 'forecast', 'off by', 'commit'],
          memory.map((l) => [
            l.name,
            gib(l.driverGiB),
            gib(l.reservedGiB),
            gib(l.forecastReservedGiB),
            percent(Math.max(...[l.driverGiB, l.forecastReservedGiB].map((g) => Math.abs(g / l.reservedGiB - 1)))),
            gib(l.liveGiB),
            gib(l.forecastLiveGiB),
            percent(Math.abs(l.forecastLiveGiB / l.liveGiB - 1)),
            code(l.commit),
          ]),
        )}`
      : '',
    ...sizes.map(
      (l) =>
        `${l.name}: ${(l.gzip / 1e3).toFixed(0)} kB by gzip (goal: at most ${(l.goal / 1e3).toFixed(0)}), ${(l.brotli / 1e3).toFixed(0)} kB by brotli, ${(l.bytes / 1e3).toFixed(0)} kB as ${l.files} files (${code(l.commit)}).`,
    ),
    ...loads.map(
      (l) =>
        `${l.name}: ${(l.bytes / 1e9).toFixed(1)} GB in ${l.seconds} s, ${l.gigabytesPerSecond} GB/s${l.goal === undefined ? '' : ` (goal ${l.goal})`}; host memory ${gib(l.residentHighest / 2 ** 30)} at its highest (${code(l.commit)}).`,
    ),
  ];
  return parts.filter(Boolean).join('\n\n');
}
