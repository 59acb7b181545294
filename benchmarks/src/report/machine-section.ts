/** The records of one machine as a section of docs/benchmarks.md, with its plots. */
import { readFileSync } from 'node:fs';
import { type GpuLines, readGpuLines } from '../gpu-lines.ts';
import { growths } from '../growth.ts';
import { type BenchRecord, type Measured, readRecords, timesCount } from '../record.ts';
import { checksText } from './checks.ts';
import { shortName, statusWord } from './format.ts';
import { kernelLosses, kernelTable, newestKernels, webGpuKernels, webGpuLosses, webGpuTable } from './kernels.ts';
import { byOp, growthTable, loadTable, losses, methodWords, opsTable, qualityLines, qualityTable } from './markdown.ts';
import { type PlotFile, plotsOf, seriesPoints } from './plots.ts';
import { besideQuoted } from './quoted.ts';
import { newestSteps, type Step, stepTable } from './steps.ts';

/** A folder of records: what the harness wrote, and lines of GPU runs. */
export interface Machine {
  /** The folder's name. */
  readonly name: string;
  readonly records: readonly BenchRecord[];
  readonly lines: readonly GpuLines[];
}

export interface Section {
  readonly title: string;
  readonly text: string;
  /** SVG files by name. */
  readonly plots: ReadonlyMap<string, string>;
}

/** Does a file hold records of the harness, rather than lines of a GPU run? */
export function isSchemaFile(path: string): boolean {
  const first = readFileSync(path, 'utf8').split('\n', 1)[0]!;
  return first.startsWith('{') && 'schema' in (JSON.parse(first) as object);
}

export function readMachine(name: string, paths: readonly string[]): Machine {
  const schema = paths.filter(isSchemaFile);
  return {
    name,
    records: schema.flatMap((path) => [...readRecords(path).records]).sort((a, b) => a.date.localeCompare(b.date)),
    lines: paths.filter((path) => !schema.includes(path)).map(readGpuLines),
  };
}

const keyOf = (r: BenchRecord) => `${r.suite}\n${r.case}\n${r.contender.name}\n${r.contender.device}`;

/** By case and contender the newest record counts; one that was made keeps its place against a later one that was not. */
function newest<R extends BenchRecord>(records: readonly R[]): R[] {
  return [...new Map(records.map((r) => [keyOf(r), r])).values()];
}

const unique = (values: readonly (string | null | undefined)[]) => [...new Set(values.filter((v): v is string => !!v))];

/** Cases of a device that is a program: that they are right is all that can be said. */
function softwareWords(records: readonly Measured[]): string {
  const devices = unique(records.map((r) => `${shortName(r)} (${r.contender.device})`));
  const checked = records.filter((r) => r.figures.difference !== undefined && !r.case.startsWith('ceiling'));
  return `${devices.join(', ')}: a program stands in for the GPU, so there is no speed here. ${records.length} cases ran, ${checked.length} of them ops whose results are right.`;
}

const folded = (summary: string, text: string) => `<details><summary>${summary}</summary>\n\n${text}\n\n</details>`;

/** Everything that is known of a machine. */
export function machineSection({ name, records, lines }: Machine): Section {
  const made = newest(records.filter((r): r is Measured => r.status === 'ok'));
  const told = made.filter(timesCount);
  const software = made.filter((r) => r.marks.includes('software'));
  const busy = made.filter((r) => r.marks.includes('busy') && !r.marks.includes('software') && !timesCount(r));
  const shared = told.filter((r) => r.marks.includes('busy'));
  const have = new Set(made.map(keyOf));
  const missed = newest(records.filter((r) => r.status !== 'ok' && !have.has(keyOf(r))));
  const of = (suite: BenchRecord['suite']) => told.filter((r) => r.suite === suite);
  // losses and bytes do not depend on what else the machine did
  const quality = made.filter((r) => r.suite === 'quality' && !r.marks.includes('software'));
  const files = new Map<string, string>();
  const shown = (list: readonly PlotFile[]) =>
    list.map((p) => {
      files.set(`${name}-${p.name}.svg`, p.svg);
      return `![${p.words}](benchmarks/${name}-${p.name}.svg)`;
    });

  const kernels = newestKernels(lines.flatMap((l) => l.kernels));
  const onWebGpu = webGpuKernels(lines.flatMap((l) => l.kernels));
  const steps = newestSteps(
    records.filter((r): r is Measured => r.status === 'ok' && r.suite === 'train' && timesCount(r)),
    lines.flatMap((l) => l.steps),
  );
  const plots = plotsOf(told, quality, steps);
  const beside = besideQuoted(
    lines.flatMap((l) => l.quoted),
    steps,
  );
  const qualities = lines.flatMap((l) => l.qualities);
  const checks = checksText(lines);
  const points = seriesPoints(told);
  const [inSeries, whole] = [true, false].map((yes) => steps.filter(({ now }) => points.has(now.name) === yes)) as [
    Step[],
    Step[],
  ];
  const shares = of('train').filter(
    (r) =>
      'op.loraLinear.milliseconds' in r.figures &&
      / recompute (none|.*call by call)$/.test(r.case) &&
      !points.has(r.case),
  );
  const behind = [...losses(told), ...beside.losses, ...kernelLosses(kernels), ...webGpuLosses(onWebGpu)];
  const compared =
    told.some((r) => r.contender.kind === 'peer') || beside.text || [...kernels, ...onWebGpu].some((k) => k.now.goal);
  const commands = unique([
    ...records.map((r) => r.command.replace(/ --(out|html) \S+/g, '')),
    ...lines.flatMap((l) => [...l.kernels, ...l.steps].map((x) => `${x.command}  # packed by scripts/gpu/pack.mjs`)),
  ]);

  const text = [
    placeOf(records, lines),
    ...(whole.length ? ['### Training steps', ...shown(plots.train), stepTable(whole)] : []),
    ...(beside.text ? ['### Beside Python', beside.text] : []),
    ...(plots.growth.length
      ? [
          '### Growth',
          'Fitted over all points of a series, on logarithms.',
          ...shown(plots.growth),
          growthTable(growths(told)),
          folded(`All ${inSeries.length} points`, stepTable(inSeries)),
        ]
      : []),
    ...(shares.length ? ['### Where the time of a step goes', ...shares.slice(0, 2).map(byOp)] : []),
    ...(quality.length
      ? ['### Methods', ...shown(plots.quality), qualityTable(quality), methodWords(quality)].filter(Boolean)
      : []),
    ...(qualities.length ? ['### The same numbers as PEFT: GSM8K', qualityLines(qualities)] : []),
    ...(of('load').length ? ['### Loading and saving', ...shown(plots.load), loadTable(of('load'))] : []),
    ...(of('ops').length
      ? ['### Operations', ...shown(plots.ops), folded(`All ${of('ops').length} lines`, opsTable(of('ops')))]
      : []),
    ...(kernels.length
      ? [
          '### Kernels',
          'At the sizes of an 8B model, timed by device events within a graph, operands rotating through four times the L2.',
          kernelTable(kernels),
        ]
      : []),
    ...(onWebGpu.length
      ? [
          '### Kernels through WebGPU',
          'By timestamps around some calls one after another, from Node through Dawn; other libraries by the clock, through the same Dawn. Products and weights are 4096 × 4096, attention is causal, 4×32×2048×128.',
          webGpuTable(onWebGpu),
        ]
      : []),
    ...(checks ? ['### Checked beside speed', checks] : []),
    ...(compared
      ? ['### Where we lose', behind.join('\n') || 'In none of the cases that others were measured on.']
      : []),
    ...(software.length ? ['### No speed', softwareWords(software)] : []),
    ...(busy.length
      ? [`${busy.length} lines were measured while other programs used the machine: their times are left out here.`]
      : []),
    ...(shared.length
      ? [
          `${shared.length} lines are of a GPU whose host had other programs on some of its cores, and at least two to itself.`,
        ]
      : []),
    ...(missed.length
      ? [
          folded(
            `Not measured: ${missed.length} cases`,
            missed
              .map(
                (r) =>
                  `- ${r.suite}/${r.case}, ${shortName(r)}: ${statusWord[r.status as keyof typeof statusWord]}: ${'reason' in r ? r.reason : ''}`,
              )
              .join('\n'),
          ),
        ]
      : []),
    folded('To repeat', `\`\`\`sh\n${commands.join('\n')}\n\`\`\``),
  ].join('\n\n');
  return { title: titleOf(name, records, lines), text, plots: files };
}

/** What the machine is called: the device of most records, with the host's processor where that is the device. */
function titleOf(name: string, records: readonly BenchRecord[], lines: readonly GpuLines[]): string {
  const backends = records.filter((r) => r.contender.kind === 'backend' && r.contender.device);
  const gpu = lines[0]?.gpu ?? backends.find((r) => !r.contender.device.startsWith('WebAssembly'))?.contender.device;
  if (gpu) return gpu;
  const first = records[0];
  return first ? `${first.environment.cpu}, ${first.environment.cores} cores` : name;
}

function placeOf(records: readonly BenchRecord[], lines: readonly GpuLines[]): string {
  const hosts = unique(
    records.map(({ environment: e }) => `${e.cpu}, ${e.cores} cores, ${e.os}, Node ${e.packages.node}`),
  );
  const drivers = unique([
    ...records.map((r) => r.contender.driver),
    ...lines.flatMap((l) => l.kernels.map((k) => k.driver)),
  ]);
  const days = unique([...records.map((r) => r.date.slice(0, 10)), ...lines.map((l) => l.at.slice(0, 10))]).sort();
  const commits = unique([
    ...records.map((r) => r.environment.commit),
    ...lines.flatMap((l) => [...l.kernels, ...l.steps].map((x) => x.commit.slice(0, 12))),
  ]);
  return `${[...hosts, ...drivers.map((d) => `driver ${d}`)].join('; ')}. Recorded ${days.join(', ')} at ${commits.join(', ') || 'an unknown commit'}.`;
}
