/** What is done to processes that train on CUDA (scripts/gpu/fault-run.ts), and what must come of it: on the driver without a GPU, and on a GPU. */
import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';

type Line = Readonly<Record<string, unknown>>;

export interface Ended {
  /** null where a signal ended the process. */
  readonly code: number | null;
  readonly lines: readonly Line[];
  readonly stderr: string;
  /** The value of a key in the last line that has it. */
  value(key: string): unknown;
}

/** Where the processes run. */
export interface Place {
  /** The command of a process, without mode and folder. */
  readonly command: readonly string[];
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** Settings of all processes. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** How a kernel is made to fail: settings or environment of the process; launch by launch, and in a recording. */
  readonly broken: Readonly<Record<'recorded' | 'eager', { settings?: object; env?: Record<string, string> }>>;
}

/** A case's facts; `ok` says whether all is as it must be. */
export type Outcome = Readonly<Record<string, unknown>> & { readonly ok: boolean };

interface StartOptions {
  readonly settings?: object | undefined;
  readonly env?: Record<string, string> | undefined;
  /** Called with each line. */
  readonly onLine?: (line: Line, kill: (signal: NodeJS.Signals) => void) => void;
}

function start(place: Place, mode: string, folder: string, o: StartOptions = {}): Promise<Ended> {
  const [program, ...args] = place.command;
  const child = spawn(program!, [...args, mode, folder], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...place.env,
      ...o.env,
      LOWRANK_FAULT: JSON.stringify({ ...place.settings, ...o.settings }),
    },
  });
  const lines: Line[] = [];
  let rest = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop()!;
    for (const part of parts) {
      const line = JSON.parse(part) as Line;
      lines.push(line);
      o.onLine?.(line, (signal) => child.kill(signal));
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) =>
      done({ code, lines, stderr, value: (key) => lines.findLast((l) => l[key] !== undefined)?.[key] }),
    );
  });
}

const folderOf = (place: Place, name: string) => {
  const folder = join(place.folder, name);
  rmSync(folder, { recursive: true, force: true });
  return folder;
};

/** The adapter that a run never disturbed ends with. */
export async function undisturbed(place: Place): Promise<string> {
  const run = await start(place, 'train', folderOf(place, 'whole'));
  if (run.code !== 0)
    throw new Error(`the run that nothing disturbs failed: ${run.stderr}${JSON.stringify(run.lines)}`);
  return String(run.value('adapter'));
}

/** A kernel that writes outside all memory: the error names it, the checkpoints are whole, and going on from them ends as if nothing had been. */
export async function brokenKernel(place: Place, whole: string, how: 'recorded' | 'eager'): Promise<Outcome> {
  const folder = folderOf(place, `broken-${how}`);
  const run = await start(place, 'train', folder, {
    settings: place.broken[how].settings,
    env: { ...(how === 'eager' ? { LOWRANK_CUDA_SYNC: '1' } : {}), ...place.broken[how].env },
  });
  const error = String(run.value('error'));
  const saved = existsSync(join(folder, 'checkpoint-2'));
  const after = await start(place, 'train', folder);
  return {
    error,
    exit: run.code,
    closed: run.value('closed'),
    saved,
    wentOnFrom: after.value('from'),
    same: after.value('adapter') === whole,
    ok:
      run.code === 3 &&
      error.includes('CUDA_ERROR_ILLEGAL_ADDRESS') &&
      (how === 'eager' ? /^\w+: CUDA_ERROR/.test(error) : error.includes('the fault lies in one of: ')) &&
      run.value('closed') === true &&
      saved &&
      Number(after.value('from')) >= 2 &&
      after.value('adapter') === whole,
  };
}

/** A signal in the middle of a step, `milliseconds` after step `at` was told of: the run ends, and goes on as if never stopped. */
export async function signalled(
  place: Place,
  whole: string,
  { signal, at, milliseconds, twice }: { signal: NodeJS.Signals; at: number; milliseconds: number; twice?: boolean },
): Promise<Outcome> {
  const folder = folderOf(place, `${signal}-${at}-${milliseconds}${twice ? '-twice' : ''}`);
  const run = await start(place, 'train', folder, {
    onLine: (line, kill) => {
      if (line.step === at)
        setTimeout(() => {
          kill(signal);
          if (twice) setTimeout(() => kill(signal), 1);
        }, milliseconds);
    },
  });
  const after = await start(place, 'train', folder);
  const killed = signal === 'SIGKILL';
  // A second signal may come when the run has ended already.
  const codes = killed ? [null, 0] : twice ? [130, 0] : [0];
  return {
    signal,
    step: at,
    milliseconds,
    twice: twice ?? false,
    exit: run.code,
    stopped: run.value('stopped'),
    stoppedAt: run.value('at'),
    wentOnFrom: after.value('from'),
    same: after.value('adapter') === whole,
    ok: codes.includes(run.code) && after.code === 0 && after.value('adapter') === whole,
  };
}

/** Two processes on one GPU at the same time end as one does alone. */
export async function together(place: Place, whole: string): Promise<Outcome> {
  const runs = await Promise.all([1, 2].map((i) => start(place, 'train', folderOf(place, `together-${i}`))));
  const adapters = runs.map((r) => r.value('adapter'));
  return { exits: runs.map((r) => r.code), adapters, ok: adapters.every((a) => a === whole) };
}

/** More than there is: the error says what was asked for, what is held by class and what to lower; the process goes on. */
export async function outOfMemory(place: Place, settings: object): Promise<Outcome> {
  const run = await start(place, 'oom', '', { settings });
  const error = String(run.value('error'));
  const [before, after] = [Number(run.value('liveBefore')), Number(run.value('liveAfter'))];
  return {
    error,
    exit: run.code,
    liveBefore: before,
    liveAfter: after,
    smallerSteps: run.value('smaller'),
    loss: run.value('loss'),
    ok:
      /out of device memory: asked [\d.]+ [MG]iB for \w+; held: .*weights [\d.]+ [MG]iB.*Lower the batch size/.test(
        error,
      ) &&
      after === before &&
      run.value('finite') === true &&
      run.code === 0,
  };
}

/** Steps without growth of device memory, of the addon's objects, or of the host's memory beyond what its collector leaves lying. */
export async function steady(place: Place, settings: object, hostSlack: number): Promise<Outcome> {
  const run = await start(place, 'grow', '', { settings });
  const [early, late] = run.lines.filter((l) => l.sample !== undefined) as Record<string, number>[];
  if (!early || !late) return { ok: false, exit: run.code, stderr: run.stderr, lines: run.lines };
  const grown = Object.fromEntries(Object.keys(early).map((key) => [key, late[key]! - early[key]!]));
  const exact = ['reserved', 'live', 'deviceBytes', 'hostBytes', 'objects', 'pending'] as const;
  return {
    early,
    late,
    grown,
    ok:
      exact.every((key) => grown[key] === 0) &&
      grown.freeBytes! >= 0 &&
      grown.heapUsed! < hostSlack &&
      grown.external! < hostSlack &&
      grown.resident! < 4 * hostSlack &&
      run.value('finite') === true,
  };
}

/** A library that is not there, or is no driver: the process says which. */
export async function missing(place: Place, env: Record<string, string>, says: RegExp): Promise<Outcome> {
  const run = await start(place, 'train', folderOf(place, 'missing'), { env });
  const message = /LowrankError: (.*)/.exec(run.stderr)?.[1] ?? run.stderr.slice(0, 400);
  return { message, exit: run.code, ok: run.code === 1 && says.test(message) };
}
