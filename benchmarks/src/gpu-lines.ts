/**
 * Lines that are measured below the harness, most of them by scripts/gpu/run.sh and same-numbers.ts: kernels by device events (`selfcheck`), steps,
 * tests, losses, sizes.
 * Each says what made it: commit, GPU, driver, command; figures of other libraries say their source.
 */
import { readFileSync } from 'node:fs';
import { LowrankError } from '@lowrank/tensor';
import { z } from 'zod';

const stamp = {
  commit: z.string().min(7),
  /** When. */
  at: z.string().min(8),
  gpu: z.string().min(1),
  driver: z.string().min(1),
  command: z.string().min(1),
};
const count = z.number().nonnegative();

/** A kernel at its working size: microseconds of a call within a graph, by device events. */
const kernel = z.looseObject({
  ...stamp,
  kind: z.literal('kernel'),
  name: z.string(),
  /** The median; lines of comparisons without a time have 0. */
  microseconds: count,
  fastest: count,
  p20: count.optional(),
  p80: count.optional(),
  gigabytesPerSecond: count.optional(),
  teraflops: count.optional(),
  goal: count.optional(),
  error: count.optional(),
  right: z.boolean().optional(),
});

/** Whole training steps of benchmarks/src/steps-main.ts. */
const step = z.looseObject({
  ...stamp,
  case: z.string(),
  backend: z.string(),
  dtype: z.string(),
  medianMs: count,
  milliseconds: z.array(count).min(1),
  tokensPerSecond: count,
  peakGiB: count,
  loss: z.number(),
});

/** A step that could not be made. */
const failedStep = z.looseObject({ ...stamp, case: z.string(), error: z.string() });

/** Held-out loss after training on GSM8K, by client. */
const quality = z.looseObject({
  ...stamp,
  kind: z.literal('quality'),
  model: z.string(),
  data: z.string(),
  recipe: z.string(),
  method: z.string(),
  client: z.string(),
  dtype: z.string(),
  where: z.string(),
  evalAfter: count,
  evalBefore: count.optional(),
  evalTokens: count.optional(),
  /** Of the loop alone. */
  trainSeconds: count.optional(),
});

/** A step of another library that was measured on such a machine outside the harness: what made it stands in `source`. */
const quoted = z.strictObject({
  kind: z.literal('quoted'),
  at: z.string().min(8),
  gpu: z.string().min(1),
  source: z.string().min(1),
  client: z.string().min(1),
  method: z.enum(['lora', 'qlora', 'full']),
  model: z.string(),
  batch: count,
  length: count,
  /** Activations made again in the backward pass, in whatever way the library does it. */
  checkpointing: z.boolean(),
  /** The least and the most, where several machines gave several figures. */
  tokensPerSecond: z.tuple([count, count]),
  peakGiB: count,
});

/** One evaluation within a run of `lowrank train`. */
const evaluation = z.looseObject({
  ...stamp,
  event: z.literal('evaluation'),
  run: z.string(),
  loss: count,
  step: count,
});

/** A test of the conformance suite or of scripts/gpu/same-numbers.ts. */
const test = z.looseObject({
  ...stamp,
  kind: z.literal('test'),
  name: z.string(),
  status: z.enum(['passed', 'failed', 'skipped']),
});

/**
 * One kernel of a step, by Nsight Compute, alone on the GPU, at full clocks; or the `count` launches of a kernel and size by the device's
 * timestamps, and their mean.
 */
const profile = z.looseObject({
  ...stamp,
  kind: z.literal('profile'),
  case: z.string(),
  part: z.string(),
  /** Place among the launches of the run. */
  order: count,
  kernel: z.string(),
  grid: z.string(),
  count: count.optional(),
  microseconds: count,
});

/** A tile or kernel of WebGPU that was tried beside the one in use, with its time or why there is none; the adapter that it ran on. */
const tried = z.looseObject({ ...stamp, kind: z.enum(['variant', 'adapter']), name: z.string() });

/** Memory of a whole step: what the driver misses, what the pool counts, and what the forecast said without running. GiB. */
const memory = z.looseObject({
  ...stamp,
  kind: z.literal('memory'),
  name: z.string(),
  driverGiB: count,
  reservedGiB: count,
  forecastReservedGiB: count,
  liveGiB: count,
  forecastLiveGiB: count,
});

/** A checkpoint on its way to the device. Bytes, seconds; host memory of the process at its highest. */
const checkpoint = z.looseObject({
  ...stamp,
  kind: z.literal('checkpoint'),
  name: z.string(),
  bytes: count,
  seconds: count,
  gigabytesPerSecond: count,
  goal: count.optional(),
  residentHighest: count,
});

/** A rate that the machine gives, beside which others are read. */
const ceiling = z.looseObject({ ...stamp, kind: z.literal('ceiling'), name: z.string(), gigabytesPerSecond: count });

/** What was done to a process that trains, and whether all came of it that must. */
const fault = z.looseObject({ ...stamp, kind: z.literal('fault'), name: z.string(), ok: z.boolean() });

/** The conformance suite under one tool of compute-sanitizer; `findings` are its errors and hazards. */
const sanitize = z.looseObject({
  ...stamp,
  kind: z.literal('sanitize'),
  tool: z.string(),
  passed: count,
  findings: count,
});

/** Tests of a suite that was run to its end. */
const suite = z.looseObject({
  ...stamp,
  kind: z.literal('suite'),
  name: z.string(),
  passed: count,
  failed: count,
  skipped: count,
});

/** Bytes of files that a person downloads, and as they travel compressed. */
const size = z.looseObject({
  ...stamp,
  kind: z.literal('size'),
  name: z.string(),
  files: count,
  bytes: count,
  gzip: count,
  brotli: count,
  /** At most, by gzip. */
  goal: count,
});

export type MemoryLine = z.infer<typeof memory>;
export type CheckpointLine = z.infer<typeof checkpoint>;
export type FaultLine = z.infer<typeof fault>;
export type SanitizeLine = z.infer<typeof sanitize>;
export type SuiteLine = z.infer<typeof suite>;
export type SizeLine = z.infer<typeof size>;
/** Lines that say what holds on a machine, by kind. */
export interface Checks {
  readonly memory: readonly MemoryLine[];
  readonly checkpoint: readonly CheckpointLine[];
  readonly fault: readonly FaultLine[];
  readonly sanitize: readonly SanitizeLine[];
  readonly suite: readonly SuiteLine[];
  readonly size: readonly SizeLine[];
}
export type KernelLine = z.infer<typeof kernel>;
export type StepLine = z.infer<typeof step>;
export type QualityLine = z.infer<typeof quality>;
export type QuotedLine = z.infer<typeof quoted>;

export interface GpuLines {
  /** Of the first line. */
  readonly gpu: string;
  readonly at: string;
  readonly kernels: readonly KernelLine[];
  readonly steps: readonly StepLine[];
  readonly qualities: readonly QualityLine[];
  readonly quoted: readonly QuotedLine[];
  readonly checks: Checks;
  /** Lines in all, those of other kinds too. */
  readonly count: number;
}

/** Reads a file of such lines. Throws with the line that lacks what every line must have. */
export function readGpuLines(path: string): GpuLines {
  const kernels: KernelLine[] = [];
  const steps: StepLine[] = [];
  const qualities: QualityLine[] = [];
  const quotes: QuotedLine[] = [];
  const checks = {
    memory: [] as MemoryLine[],
    checkpoint: [] as CheckpointLine[],
    fault: [] as FaultLine[],
    sanitize: [] as SanitizeLine[],
    suite: [] as SuiteLine[],
    size: [] as SizeLine[],
  };
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  for (const [i, line] of lines.entries()) {
    const value = JSON.parse(line) as { kind?: string; event?: string; error?: unknown; case?: string };
    const one = <T>(schema: z.ZodType<T>): T => {
      const { data, error } = schema.safeParse(value);
      if (data !== undefined) return data;
      throw new LowrankError(
        'bench',
        'a line of a GPU run does not say what it must',
        `${path}:${i + 1}: ${error!.issues.map((p) => `${p.path.join('.')}: ${p.message}`).join('; ')}`,
      );
    };
    if (value.kind === 'kernel') kernels.push(one(kernel));
    else if (value.kind === 'quality') qualities.push(one(quality));
    else if (value.kind === 'quoted') quotes.push(one(quoted));
    else if (value.kind === 'test') one(test);
    else if (value.kind === 'profile') one(profile);
    else if (value.kind === 'variant' || value.kind === 'adapter') one(tried);
    else if (value.kind === 'memory') checks.memory.push(one(memory));
    else if (value.kind === 'checkpoint') checks.checkpoint.push(one(checkpoint));
    else if (value.kind === 'ceiling') one(ceiling);
    else if (value.kind === 'fault') checks.fault.push(one(fault));
    else if (value.kind === 'sanitize') checks.sanitize.push(one(sanitize));
    else if (value.kind === 'suite') checks.suite.push(one(suite));
    else if (value.kind === 'size') checks.size.push(one(size));
    else if (value.event) one(evaluation);
    else if (value.case !== undefined && typeof value.error === 'string') one(failedStep);
    else steps.push(one(step));
  }
  const { gpu, at } = JSON.parse(lines[0] ?? '{"gpu":"unknown","at":""}') as { gpu: string; at: string };
  return { gpu, at, kernels, steps, qualities, quoted: quotes, checks, count: lines.length };
}
