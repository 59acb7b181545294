import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { editDistance, LowrankError, nearest } from '@lowrank/tensor';
import { backendNames, checkBackendNames } from './backends.ts';

const suiteNames = ['ops', 'train', 'load', 'quality'] as const;
export type SuiteName = (typeof suiteNames)[number];
const peerSets = ['js', 'python', 'llama'] as const;
export type PeerSet = (typeof peerSets)[number];

export interface Options {
  readonly suites: readonly SuiteName[];
  /** Undefined: those that are found. */
  readonly backends: readonly string[] | undefined;
  /** Any of them; undefined: all cases. */
  readonly filter: readonly string[] | undefined;
  readonly full: boolean;
  readonly against: readonly PeerSet[];
  readonly json: boolean;
  readonly compare: string | undefined;
  readonly out: string | undefined;
  readonly html: string | undefined;
  readonly seconds: number;
  /** Of the quality suite; what suits the task where absent. */
  readonly steps: number | undefined;
  /** Of the quality suite: samples that the loss is taken over. */
  readonly heldOut: number | undefined;
  readonly threads: number | undefined;
  readonly seed: number;
  readonly list: boolean;
  readonly help: boolean;
  readonly command: string;
}

const known = {
  suite: { type: 'string' },
  backend: { type: 'string', multiple: true },
  filter: { type: 'string', multiple: true },
  full: { type: 'boolean', default: false },
  against: { type: 'string', multiple: true },
  json: { type: 'boolean', default: false },
  compare: { type: 'string' },
  out: { type: 'string' },
  html: { type: 'string' },
  seconds: { type: 'string' },
  steps: { type: 'string' },
  'held-out': { type: 'string' },
  threads: { type: 'string' },
  seed: { type: 'string', default: '0' },
  list: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

export const help = `npm run bench -- [options]      measures what is here; under 5 minutes on a CPU

  --suite ops|train|load|quality|all   all by default
  --backend NAMES       ${backendNames.join(', ')}, or ./mine.js (default export makes a backend); those found here by default
  --filter TEXT         cases whose name (suite/case) holds TEXT; * stands for anything; again for more
  --full                all shapes and whole training runs, not the quick set alone
  --against js|python|llama   other libraries on the same shapes in the same run
  --compare OLD.jsonl   ratios to an earlier run
  --out FILE            JSONL records are appended here (default benchmarks/results/<time>.jsonl)
  --html FILE           the report (default: beside the records)
  --json                records to standard output, words to standard error
  --seconds N           a case and contender (default 0.5; 3 with --full)
  --steps N             of the quality suite's training (20; 320 with --full; 60 on GSM8K)
  --held-out N          samples that its loss is taken over (64; 200 with --full and on GSM8K)
  --threads N           of the CPU backend
  --seed N              of operands and data (0)
  --list                names the cases and stops
`;

/** Reads the command line. Throws with the nearest names on what it does not know. */
export function parseOptions(argv: readonly string[]): Options {
  let values: ReturnType<typeof parseArgs<{ options: typeof known; strict: true }>>['values'];
  try {
    ({ values } = parseArgs({ args: [...argv], options: known, strict: true }));
  } catch (cause) {
    const name = /'--?([\w-]+)/.exec((cause as Error).message)?.[1] ?? '';
    throw new LowrankError(
      'bench',
      'unknown or incomplete option',
      (cause as Error).message.split('\n')[0]!.replace(/\.$/, ''),
      name && !Object.hasOwn(known, name) ? `Did you mean --${nearest(name, Object.keys(known), 1)[0]}?` : 'See --help',
      { cause },
    );
  }
  const words = (list: readonly string[] | undefined) => list?.flatMap((x) => x.split(',')).filter(Boolean);
  const backends = words(values.backend);
  if (backends) checkBackendNames(backends);
  if (values.compare && !existsSync(values.compare))
    throw new LowrankError('bench', 'the record file to compare with is not there', values.compare);
  const full = values.full ?? false;
  return {
    suites:
      values.suite === undefined || values.suite === 'all'
        ? suiteNames
        : oneOf('suite', words([values.suite])!, suiteNames, ['all']),
    backends,
    filter: values.filter,
    full,
    against: oneOf('against', words(values.against) ?? [], peerSets),
    json: values.json ?? false,
    compare: values.compare,
    out: values.out,
    html: values.html,
    seconds: number('seconds', values.seconds, full ? 3 : 0.5, 0),
    steps: values.steps === undefined ? undefined : number('steps', values.steps, 1, 1, true),
    heldOut: values['held-out'] === undefined ? undefined : number('held-out', values['held-out'], 1, 1, true),
    threads: values.threads === undefined ? undefined : number('threads', values.threads, 1, 1, true),
    seed: number('seed', values.seed, 0, 0, true),
    list: values.list ?? false,
    help: values.help ?? false,
    command: ['npm run bench --', ...argv.map(quoted)].join(' '),
  };
}

/** An argument as a shell takes it. */
const quoted = (text: string) => (/^[\w./:=,@%+×-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function oneOf<T extends string>(
  option: string,
  given: readonly string[],
  allowed: readonly T[],
  also: readonly string[] = [],
): T[] {
  return given.map((name) => {
    const found = allowed.find((a) => a === name);
    if (found) return found;
    throw new LowrankError(
      'bench',
      `unknown --${option}`,
      name,
      `Did you mean ${nearest(name, [...allowed, ...also], 1)[0]}? Known: ${[...allowed, ...also].join(', ')}`,
    );
  });
}

function number(option: string, text: string | undefined, otherwise: number, least: number, whole = false): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isFinite(value) || value < least || (whole && !Number.isInteger(value)) || text.trim() === '')
    throw new LowrankError('bench', `--${option} must be a ${whole ? 'whole ' : ''}number of at least ${least}`, text);
  return value;
}

/** Does a name hold the text of one of the filters? `*` stands for anything. */
export function matches(filter: readonly string[] | undefined, name: string): boolean {
  if (filter === undefined) return true;
  return filter.some((text) => {
    const parts = text.split('*').map((p) => p.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(parts.join('.*'), 'i').test(name);
  });
}

/** Throws with the nearest names where one of the filters finds none. */
export function checkFilter(filter: readonly string[] | undefined, names: readonly string[]): void {
  for (const text of filter ?? []) {
    if (names.some((name) => matches([text], name))) continue;
    // a filter is mostly a word of a name: the nearest words lead to the nearest names
    const distance = (name: string) =>
      Math.min(...name.split(/[ /]/).map((word) => editDistance(text.toLowerCase(), word.toLowerCase())));
    const near = [...names].sort((a, b) => distance(a) - distance(b)).slice(0, 3);
    throw new LowrankError('bench', 'no case matches --filter', text, `Nearest: ${near.join('; ')}. --list names all`);
  }
}
