/** The table of the README: a few cases that tell what to expect, each by its newest record. */
import { basename } from 'node:path';
import type { GpuLines, QuotedLine } from '../gpu-lines.ts';
import { type BenchRecord, type Measured, timesCount } from '../record.ts';
import { summarize } from '../statistics.ts';
import { bytes, digits, rateOf, shortName, time } from './format.ts';
import { markdown } from './markdown.ts';
import { sameWork } from './quoted.ts';
import { suiteName } from './steps.ts';

/** A file of records: of the harness, or of a GPU run. */
export interface Source {
  /** From the repository's root. */
  readonly path: string;
  readonly records: readonly BenchRecord[];
  readonly lines: GpuLines | undefined;
}

interface Row {
  readonly machine: string;
  readonly work: string;
  readonly figures: string;
  readonly path: string;
}

const linked = ({ machine, work, figures, path }: Row) => [machine, work, `${figures} ([record](${path}))`];

interface Step {
  readonly path: string;
  readonly date: string;
  readonly machine: string;
  readonly median: number;
  readonly tokensPerSecond: number;
  readonly peakBytes: number;
}

/** The newest step on CUDA of a case, of either kind of record. */
function newestStep(sources: readonly Source[], name: string): Step | undefined {
  const steps = sources.flatMap(({ path, records, lines }): Step[] => [
    ...records.flatMap((r) =>
      r.status === 'ok' && r.case === name && r.contender.name === 'cuda' && timesCount(r)
        ? [
            {
              path,
              date: r.date,
              machine: r.contender.device,
              median: r.median,
              tokensPerSecond: rateOf(r).value,
              peakBytes: r.figures.peakBytes!,
            },
          ]
        : [],
    ),
    ...(lines?.steps ?? []).flatMap((l) =>
      suiteName(l.case) === name && l.backend === 'cuda'
        ? [
            {
              path,
              date: l.at,
              machine: l.gpu,
              median: summarize(l.milliseconds).median,
              tokensPerSecond: l.tokensPerSecond,
              peakBytes: l.peakGiB * 2 ** 30,
            },
          ]
        : [],
    ),
  ]);
  return steps.sort((a, b) => b.date.localeCompare(a.date))[0];
}

const gpuCases = [
  {
    work: 'Llama-3.1-8B shapes, QLoRA, 4 × 2048, what blocks keep waits in host memory',
    name: 'qlora llama-3.1-8b 4×2048 r 16 recompute selective offload',
    beside: 'with checkpointing',
  },
  { work: 'the same, 1 × 2048', name: 'qlora llama-3.1-8b 1×2048 r 16 recompute selective offload', beside: '' },
  {
    work: 'the same, 2 × 2048, norms and activations made again',
    name: 'qlora llama-3.1-8b 2×2048 r 16 recompute selective',
    beside: 'without checkpointing',
  },
  { work: 'SmolLM2-135M shapes, LoRA, 1 × 512', name: 'lora smollm2-135m 1×512 r 16 recompute none', beside: '' },
] as const;

const most = (q: QuotedLine) => q.tokensPerSecond[1];

function gpuRows(sources: readonly Source[]): Row[] {
  const quoted = sources.flatMap((s) => s.lines?.quoted ?? []);
  return gpuCases.flatMap(({ work, name, beside }) => {
    const step = newestStep(sources, name);
    if (!step) return [];
    // where both kinds of work are its peers, the nearer one: without checkpointing where nothing goes to the host
    const others = quoted.filter((q) => sameWork(name, q) && q.checkpointing === name.includes('offload'));
    const peers = others
      .filter((q) => /Unsloth|bitsandbytes/.test(q.client))
      .sort((a, b) => most(b) - most(a))
      .map((q, i) => `${q.client}${i === 0 && beside ? ` ${beside}` : ''} ${digits(most(q))} and ${digits(q.peakGiB)}`);
    const speed = `${digits(step.tokensPerSecond)} tokens/s (${time(step.median)}), ${digits(step.peakBytes / 2 ** 30)} GiB`;
    return [
      {
        machine: step.machine,
        work,
        figures: peers.length ? `${speed}; ${peers.join('; ')}` : speed,
        path: step.path,
      },
    ];
  });
}

/** The newest record of a case on the CPU backend, with what else ran in its run. */
function onCpu(
  sources: readonly Source[],
  wanted: (r: Measured) => boolean,
): { path: string; record: Measured; peers: Measured[] } | undefined {
  const found = sources
    .flatMap(({ path, records }) => {
      const ok = records.filter((r): r is Measured => r.status === 'ok');
      return ok
        .filter((r) => r.contender.name === 'cpu' && wanted(r))
        .map((record) => ({
          path,
          record,
          peers: ok.filter((p) => p.run === record.run && p.case === record.case && p.contender.kind === 'peer'),
        }));
    })
    .sort((a, b) => b.record.date.localeCompare(a.record.date) || b.peers.length - a.peers.length);
  return found.find((f) => f.peers.length) ?? found[0];
}

const threads = ({ contender }: Measured) => Number(/threads=(\d+)/.exec(contender.features.join(' '))?.[1] ?? 1);
const cores = (n: number) => (n === 1 ? '1 CPU core' : `${n} CPU cores`);

function cpuRows(sources: readonly Source[]): Row[] {
  const rows: Row[] = [];
  const add = (
    work: string,
    found: ReturnType<typeof onCpu>,
    figures: (f: NonNullable<ReturnType<typeof onCpu>>) => string,
  ) => {
    if (found)
      rows.push({
        machine: `${cores(threads(found.record))}, WebAssembly`,
        work,
        figures: figures(found),
        path: found.path,
      });
  };
  const quiet = (r: Measured) => timesCount(r);
  add(
    'SmolLM2-135M shapes, QLoRA, 1 × 256',
    onCpu(sources, (r) => r.case === 'qlora smollm2-135m 1×256 r 16 recompute none' && quiet(r)),
    ({ record, peers }) => {
      const one = (r: Measured) =>
        `${digits(rateOf(r).value)} tokens/s, ${bytes(r.figures.peakResidentBytes!)} resident`;
      const beside = peers.map((p) => `${p.contender.name} with bitsandbytes, native, same run: ${one(p)}`);
      return [one(record), ...beside].join('; ');
    },
  );
  add(
    'f32 product 256×1024×1024',
    onCpu(sources, (r) => r.case === 'matmul 256×1024×1024 f32' && threads(r) === 1 && quiet(r)),
    ({ record, peers }) => {
      const one = (r: Measured) => `${digits(rateOf(r).value)} ${rateOf(r).unit}`;
      const beside = peers.map((p) => `${shortName(p)} ${one(p).split(' ')[0]}`);
      return beside.length ? `${one(record)}; same run: ${beside.join(', ')}` : one(record);
    },
  );
  add(
    'bundled model, QLoRA',
    onCpu(sources, (r) => r.case === 'bundled qlora nf4 r 16' && r.figures.steps! >= 300),
    ({ record: { figures: f } }) =>
      `${f.steps} steps: held-out loss ${f.heldOutLossBefore!.toFixed(2)} to ${f.heldOutLoss!.toFixed(3)}, ${(100 * f.score!).toFixed(0)} % of ${f.questions} held-out requests right`,
  );
  return rows;
}

const [begin, end] = ['<!-- generated by benchmarks/src/docs.ts -->', '<!-- end of what is generated -->'];

/** The README with its table as the records say. Throws where the marks are missing. */
export function withTable(readme: string, sources: readonly Source[]): string {
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`README.md: the table stands between ${begin} and ${end}`);
  const rows = [...cpuRows(sources), ...gpuRows(sources)];
  const table = markdown(['machine', 'work', ''], rows.map(linked));
  const outside = [...new Set(sources.filter((s) => s.lines?.quoted.length).map((s) => s.path))];
  const words = outside.length
    ? `\n\nThe Python stacks beside the GPU were measured on such a machine, not in the same run (${outside.map((p) => `[${basename(p)}](${p})`).join(', ')}).`
    : '';
  return `${readme.slice(0, from + begin.length)}\n${table}${words}\n${readme.slice(to)}`;
}
