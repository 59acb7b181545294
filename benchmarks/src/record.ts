import { appendFileSync, closeSync, mkdirSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { LowrankError } from '@lowrank/tensor';
import { z } from 'zod';

/** Version of the lines below. A reader refuses others rather than guess. */
export const schemaVersion = 2;

/** Share of the cores' time that other programs may take before a line is marked: beyond it, times are not those of this machine. */
export const busyShare = 0.15;

const positive = z.number().nonnegative();

const environment = z.strictObject({
  /** Commit of the sources, with `+` where files differ from it; null outside a repository. */
  commit: z.string().nullable(),
  /** Versions by package: ours, those of peers, Node. */
  packages: z.record(z.string(), z.string()),
  os: z.string(),
  cpu: z.string(),
  cores: z.int().positive(),
  memoryBytes: positive,
  /** Mean number of running programs in the minute before the run (0 where the system does not tell). */
  load: positive,
  /** Share of all cores' time that others took just before the case and, where it can be told apart, while it ran. */
  othersShare: z.number().min(0).max(1),
});

const contender = z.strictObject({
  /** A backend's name, or a peer's. */
  name: z.string().min(1),
  kind: z.enum(['backend', 'peer']),
  device: z.string(),
  /** Null where nothing tells. */
  driver: z.string().nullable(),
  features: z.array(z.string()),
});

const work = z.strictObject({
  /** Floating-point operations and bytes that one run must do and move, counted from shapes. */
  flops: positive.optional(),
  bytes: positive.optional(),
  tokens: positive.optional(),
});

const ceiling = z.strictObject({
  /** What was measured beside it on the same contender: a copy (bytes/s) or a large product (flop/s). */
  of: z.enum(['copy', 'gemm']),
  perSecond: positive,
  /** Of the record's own rate in that. */
  share: positive,
});

/** Why a line's times are no speed: others used the machine (`busy`), or the device is a program (`software`: SwiftShader, llvmpipe). */
const mark = z.enum(['busy', 'software']);

const shared = {
  schema: z.literal(schemaVersion),
  /** One run of the command. */
  run: z.string().min(1),
  date: z.iso.datetime(),
  command: z.string(),
  seed: z.int(),
  suite: z.enum(['ops', 'train', 'load', 'quality']),
  case: z.string().min(1),
  contender,
  environment,
  marks: z.array(mark),
  /** The sizes of a case by name, where it has a series: `length`, `rank`, `layers`, `batch`. */
  shape: z.record(z.string(), z.union([z.number(), z.string()])).optional(),
};

/** A measurement that was made. Times are in milliseconds of one run of the case. */
const measured = z.strictObject({
  ...shared,
  status: z.literal('ok'),
  samples: z.array(positive).min(1),
  /** Processor milliseconds of the whole process for each sample: they do not grow while other programs run. */
  cpuSamples: z.array(positive).optional(),
  median: positive,
  p20: positive,
  p80: positive,
  work,
  ceiling: ceiling.optional(),
  /** Other results by name: bytes, losses, scores, shares. */
  figures: z.record(z.string(), z.number()),
  notes: z.array(z.string()),
});

/** A measurement that was not made, and why. `wrong`: results differ from the reference, so that there is no speed. */
const missed = z.strictObject({
  ...shared,
  status: z.enum(['wrong', 'failed', 'absent', 'refused']),
  reason: z.string().min(1),
});

const record = z.discriminatedUnion('status', [measured, missed]).superRefine((r, context) => {
  if (r.environment.othersShare > busyShare && !r.marks.includes('busy'))
    context.addIssue({
      code: 'custom',
      path: ['marks'],
      message: `others took ${Math.round(100 * r.environment.othersShare)} % of the cores: the line must be marked busy`,
    });
});

export type Measured = z.infer<typeof measured>;
export type Missed = z.infer<typeof missed>;
export type BenchRecord = z.infer<typeof record>;
export type Environment = z.infer<typeof environment>;
export type ContenderFacts = z.infer<typeof contender>;
export type Work = z.infer<typeof work>;
export type Mark = z.infer<typeof mark>;
export type CaseShape = NonNullable<Measured['shape']>;

/** Appends records line by line: what was measured before an interruption stays whole. */
export class RecordFile {
  readonly path: string;

  /** Throws where a file that is there holds something else, or cannot be written. */
  constructor(path: string) {
    this.path = path;
    try {
      mkdirSync(dirname(path), { recursive: true });
      appendFileSync(path, '');
    } catch (cause) {
      throw new LowrankError('bench', 'the record file cannot be written', path, (cause as Error).message, { cause });
    }
    if (statSync(path).size === 0) return;
    readRecords(path);
    // a line that an interruption cut short ends here, so that the next one is whole
    if (lastByte(path) !== 10) appendFileSync(path, '\n');
  }

  append(value: BenchRecord): void {
    appendFileSync(this.path, `${JSON.stringify(record.parse(value))}\n`);
  }
}

function lastByte(path: string): number {
  const byte = new Uint8Array(1);
  const file = openSync(path, 'r');
  try {
    readSync(file, byte, 0, 1, statSync(path).size - 1);
  } finally {
    closeSync(file);
  }
  return byte[0]!;
}

export interface ReadRecords {
  readonly records: readonly BenchRecord[];
  /** Lines that were cut short by an interruption, by number. */
  readonly broken: readonly number[];
}

/** How every line begins. */
const opening = '{"schema":';

/** Reads a record file. Throws with the line where one is of another schema version or does not keep to the schema. */
export function readRecords(path: string): ReadRecords {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new LowrankError('bench', 'the record file cannot be read', path, (cause as Error).message, { cause });
  }
  const records: BenchRecord[] = [];
  const broken: number[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (!line.trim()) continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      // cut short, a line is still the beginning of one
      if (!opening.startsWith(line.slice(0, opening.length)))
        throw new LowrankError('bench', 'the file holds something else than records', `${path}:${i + 1}`);
      broken.push(i + 1);
      continue;
    }
    const version = (value as { schema?: unknown } | null)?.schema;
    if (version !== schemaVersion)
      throw new LowrankError(
        'bench',
        'the record is of another schema version',
        `${path}:${i + 1}: ${version === undefined ? 'no version' : `version ${String(version)}`}, this program reads ${schemaVersion}`,
        'Measure again, or read it with the release that wrote it',
      );
    const parsed = record.safeParse(value);
    if (!parsed.success)
      throw new LowrankError(
        'bench',
        'the record does not keep to the schema',
        `${path}:${i + 1}: ${parsed.error.issues.map((p) => `${p.path.join('.')}: ${p.message}`).join('; ')}`,
      );
    records.push(parsed.data);
  }
  return { records, broken };
}

/**
 * Do a record's times count? Not on a device that is a program; and where other programs used the processors only if the work was a GPU's and
 * its host was left two cores.
 */
export function timesCount(r: BenchRecord): boolean {
  if (r.marks.includes('software')) return false;
  if (!r.marks.includes('busy')) return true;
  const onGpu = r.contender.kind === 'backend' && !r.contender.device.startsWith('WebAssembly');
  return onGpu && (1 - r.environment.othersShare) * r.environment.cores >= 2;
}
