/**
 * The collectives on the GPUs that are here, one process a GPU: collectives.mjs RECORD [RANKS [one]]. Checks every op, a recorded step, and what
 * becomes of a group whose rank dies or never comes; then times allReduce. Each line is a test, or a time with its share of NVLink.
 * Settings of the processes are in LOWRANK_RANK as JSON (see `Settings`); the id of a group travels through the parent.
 */
import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { backendOn } from '../../packages/backend-cuda/src/backend.ts';
import { available } from '../../packages/backend-cuda/src/index.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { empty, everything, recordedStep } from '../../packages/backend-cuda/tests/support/collective-cases.ts';
import type { Backend, CollectiveGroup } from '../../packages/tensor/src/index.ts';

interface Settings {
  readonly mode: 'check' | 'time' | 'die' | 'alone';
  readonly rank: number;
  readonly size: number;
  readonly counts: readonly number[];
  /** Bytes of what is timed. */
  readonly bytes: readonly number[];
  readonly timeoutMs: number;
  /** Each its own; with `one`, which the driver without a GPU has, all the same. */
  readonly device: number;
}
type Line = Readonly<Record<string, unknown>>;

const say = (line: Line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// ---- a rank ----

/** The id of the group: rank 0 makes it, the others get it on their standard input. */
async function idOf(backend: Backend, o: Settings): Promise<Uint8Array> {
  if (o.rank === 0) {
    const id = backend.collectives!.createId();
    say({ id: Buffer.from(id).toString('hex') });
    return id;
  }
  let text = '';
  for await (const part of process.stdin) text += String(part);
  return Buffer.from(text, 'hex');
}

async function rankOf(o: Settings): Promise<void> {
  const device = CudaDevice.open({ device: o.device });
  const backend = backendOn(device);
  const { rank, size, timeoutMs } = o;
  const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
  const id = await idOf(backend, o);
  const began = performance.now();
  const seconds = () => Number(((performance.now() - began) / 1000).toFixed(2));
  if (o.mode === 'alone') {
    await backend.collectives!.join({ rank, size, id, timeoutMs }).then(
      () => say({ joined: true }),
      (error: unknown) => say({ error: messageOf(error), seconds: seconds() }),
    );
    await backend.close();
    say({ closed: true, seconds: seconds() });
    return;
  }
  const group = await backend.collectives!.join({ rank, size, id, timeoutMs });
  say({ joined: true, seconds: seconds() });
  if (o.mode === 'die') await mourn(backend, group, say);
  else {
    if (o.mode === 'check') await check(backend, group, o.counts);
    else await time(device, backend, group, o.bytes);
    await group.leave();
    say({ left: true });
  }
  await backend.close();
  say({ closed: true });
}

async function check(backend: Backend, group: CollectiveGroup, counts: readonly number[]): Promise<void> {
  const first = await everything(backend, group, counts);
  const second = await everything(backend, group, counts);
  const large = await everything(backend, group, [16 * counts.at(-1)!], 'allReduce {"op":"sum"} f32');
  const step = await recordedStep(backend, group, counts.at(-1)!);
  const held = await group.leave().then(
    () => 'left',
    (error: Error) => error.message,
  );
  step.release();
  say({
    ...first,
    wrong: [...first.wrong, ...large.wrong],
    largest: large.cases,
    twice: first.hash === second.hash,
    step: { ...step },
    held,
    reserved: backend.memory.reservedBytes(),
  });
}

/** The others die within the group; this rank's op, wait and close must all come to an end. */
async function mourn(backend: Backend, group: CollectiveGroup, tell: (line: Line) => void): Promise<void> {
  const x = empty(backend, [1 << 20], 'f32');
  const run = () => group.ops.allReduce({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sum' } });
  run();
  await backend.synchronize();
  if (group.rank > 0) process.kill(process.pid, 'SIGKILL');
  const began = performance.now();
  const errors: string[] = [];
  for (const attempt of [
    async () => {
      run();
      await backend.synchronize();
    },
    async () => {
      run();
      await backend.synchronize();
    },
    () => group.leave(),
  ])
    await attempt().then(
      () => errors.push('nothing'),
      (error: Error) => errors.push(error.message),
    );
  tell({ errors, seconds: Number(((performance.now() - began) / 1000).toFixed(2)) });
}

/** Microseconds of one allReduce within a recording and enqueued one by one, by events on the stream: all samples, sorted. */
async function time(
  device: CudaDevice,
  backend: Backend,
  group: CollectiveGroup,
  sizes: readonly number[],
): Promise<void> {
  const { native } = device;
  const [start, end] = [native.eventCreate(device.handle, true), native.eventCreate(device.handle, true)];
  for (const bytes of sizes) {
    const x = empty(backend, [bytes / 4], 'f32');
    backend.primitives.fill({ inputs: {}, outputs: { y: x }, attrs: { shape: x.shape, dtype: 'f32', value: 0 } });
    const calls = bytes <= 1 << 20 ? 20 : 5;
    const many = () => {
      for (let i = 0; i < calls; i++) group.ops.allReduce({ inputs: { x }, outputs: { y: x }, attrs: { op: 'sum' } });
    };
    many();
    await backend.synchronize();
    backend.record!.begin();
    many();
    const recording = backend.record!.end();
    for (const [how, run] of [
      ['replay', () => recording.replay()],
      ['eager', many],
    ] as const) {
      const samples: number[] = [];
      for (let i = 0; i < 25; i++) {
        device.commands.record(start);
        run();
        device.commands.record(end);
        await backend.synchronize();
        if (i >= 5) samples.push((native.eventElapsed(start, end)! * 1000) / calls);
      }
      say({ bytes, how, samples: samples.sort((a, b) => a - b) });
    }
    recording.release();
    backend.memory.release(x.buffer);
  }
  for (const event of [start, end]) native.release(event);
}

// ---- the parent ----

interface Ended {
  readonly code: number | null;
  readonly lines: readonly Line[];
  readonly stderr: string;
}

/** Starts all ranks (or the first `started`) and gives what they said. */
async function ranks(
  settings: Omit<Settings, 'rank' | 'device'>,
  sameGpu: boolean,
  started = settings.size,
): Promise<Ended[]> {
  let idKnown: (id: string) => void = () => {};
  const id = new Promise<string>((known) => {
    idKnown = known;
  });
  const one = (rank: number) => {
    const o: Settings = { ...settings, rank, device: sameGpu ? 0 : rank };
    const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), 'rank'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Multicast over NVLink needs a fabric manager that lets guests use it.
      env: { ...process.env, NCCL_NVLS_ENABLE: '0', LOWRANK_RANK: JSON.stringify(o) },
    });
    child.stdin.on('error', () => {}); // a rank that ended before it read
    if (rank > 0) id.then((text) => child.stdin.end(text));
    const lines: Line[] = [];
    let [rest, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop()!;
      for (const part of parts.filter((p) => p.startsWith('{'))) {
        const line = JSON.parse(part) as Line;
        if (typeof line.id === 'string') idKnown(line.id);
        else lines.push(line);
      }
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    return new Promise<Ended>((done) => {
      child.on('close', (code) => {
        idKnown(''); // where rank 0 ends without one, the others end too
        done({ code, lines, stderr });
      });
    });
  };
  return Promise.all(Array.from({ length: started }, (_, rank) => one(rank)));
}

const value = (ended: Ended | undefined, key: string) => ended?.lines.findLast((l) => l[key] !== undefined)?.[key];

/** GB/s of one direction of all of a GPU's links; undefined where there are none. */
function nvlink(): number | undefined {
  try {
    const text = execFileSync('nvidia-smi', ['nvlink', '--status', '-i', '0'], { encoding: 'utf8' });
    const sum = [...text.matchAll(/Link \d+: ([\d.]+) GB\/s/g)].reduce((s, [, v]) => s + Number(v), 0);
    return sum || undefined;
  } catch {
    return undefined;
  }
}

async function main([record, given = '2', gpus = '']: string[]): Promise<number> {
  const size = Number(given);
  const sameGpu = gpus === 'one';
  let failed = 0;
  const add = (line: Line) => {
    const text = JSON.stringify(line);
    console.log(text.length > 600 ? `${text.slice(0, 600)}…` : text);
    if (record) appendFileSync(record, `${text}\n`);
  };
  const test = (name: string, ok: boolean, facts: Line) => {
    if (!ok) failed++;
    add({ kind: 'test', name: `collectives: ${name}`, status: ok ? 'passed' : 'failed', ...facts });
  };
  const said = (all: readonly Ended[]) => all.map((e) => ({ exit: e.code, stderr: e.stderr.slice(-600) }));
  const found = available();
  test('NCCL is found', found.ok && found.nccl.ok, { found: found.ok ? found.nccl : found.reason });
  if (failed) return failed;
  const counts = sameGpu ? [1, 37, 300_001] : [1, 1023, (1 << 20) + 5];
  const common = { size, counts, bytes: [], timeoutMs: 60_000 };

  const checked = await ranks({ ...common, mode: 'check' }, sameGpu);
  const each = (key: string) => checked.map((e) => value(e, key));
  test(
    'every op, dtype and size',
    each('wrong').every((w) => Array.isArray(w) && w.length === 0) && each('largest').every((n) => n === 1),
    {
      cases: each('cases'),
      largest: each('largest'),
      wrong: each('wrong'),
      ranks: said(checked),
    },
  );
  test(
    'two runs give the same bits',
    each('twice').every((t) => t === true),
    { hashes: each('hash') },
  );
  const steps = each('step') as ({ same?: boolean; changed?: boolean } | undefined)[];
  test(
    'a recorded step gives the bits of the eager one',
    steps.every((s) => s?.same && s.changed),
    { steps },
  );
  test(
    'leave is refused while a recording holds its ops',
    each('held').every((h) => /Release them first/.test(String(h))),
    {
      held: each('held'),
    },
  );
  test(
    'all leave, and the processes end',
    checked.every((e) => e.code === 0 && value(e, 'left') === true),
    {
      ranks: said(checked),
    },
  );

  const mourning = await ranks({ ...common, mode: 'die', timeoutMs: 3000 }, sameGpu);
  const errors = (value(mourning[0], 'errors') ?? []) as string[];
  test(
    'a rank that is killed: the others get an error',
    mourning[0]!.code === 0 &&
      errors.length === 3 &&
      errors.every((e) => /the group has failed|the group had failed/.test(e)),
    { errors, seconds: value(mourning[0], 'seconds'), ranks: said(mourning) },
  );
  const alone = await ranks({ ...common, mode: 'alone', timeoutMs: 3000 }, sameGpu, 1);
  test(
    'a rank that never comes: join ends',
    alone[0]!.code === 0 && /waited 3000 ms for the others to join/.test(String(value(alone[0], 'error'))),
    { error: value(alone[0], 'error'), seconds: value(alone[0], 'seconds'), ranks: said(alone) },
  );
  if (sameGpu) return failed;

  const limit = nvlink();
  const bytes = Array.from({ length: 10 }, (_, i) => 1024 * 4 ** i);
  const timed = await ranks({ ...common, mode: 'time', bytes }, sameGpu);
  for (const line of timed[0]!.lines) {
    const samples = line.samples as number[] | undefined;
    if (!samples) continue;
    const at = (share: number) => Number(samples[Math.floor(share * (samples.length - 1))]!.toFixed(2));
    // The bytes that each GPU must send at least: 2 (n − 1) / n of what is reduced.
    const bus = ((2 * (size - 1)) / size) * (Number(line.bytes) / at(0.5) / 1000);
    const much = Number(line.bytes) >= 1 << 20 ? `${Number(line.bytes) >> 20} MiB` : `${Number(line.bytes) >> 10} KiB`;
    add({
      kind: 'kernel',
      name: `allReduce f32 ${much}, ${size} GPUs, ${line.how}`,
      microseconds: at(0.5),
      fastest: at(0),
      p20: at(0.2),
      p80: at(0.8),
      gigabytesPerSecond: Number(bus.toFixed(1)),
      ...(limit ? { linkGigabytesPerSecond: limit, share: Number((bus / limit).toFixed(3)) } : {}),
      nccl: found.ok && found.nccl.ok ? found.nccl.version : '',
    });
  }
  test(
    'allReduce was timed',
    timed.every((e) => e.code === 0) && timed[0]!.lines.filter((l) => l.samples).length === 2 * bytes.length,
    { ranks: said(timed) },
  );
  return failed;
}

if (process.argv[2] === 'rank') {
  await rankOf(JSON.parse(process.env.LOWRANK_RANK!) as Settings);
} else process.exitCode = (await main(process.argv.slice(2))) ? 1 : 0;
