import { type Device, keep, type Tensor } from '@lowrank/tensor';
import { referenceBackend } from '@lowrank/testkit';
import { reasonOf } from '../backends.ts';
import { packageVersion } from '../environment.ts';
import { measure } from '../measure.ts';
import type { Session } from '../session.ts';
import { summarize } from '../statistics.ts';
import type { OpCase } from './case.ts';
import { BackendContender, type Contender, type Prepared, Refused } from './contender.ts';
import { product } from './linear-cases.ts';

/** What a contender reaches at its best in this run: bytes a second of a copy, flops a second of a large product by dtype. */
interface Ceilings {
  copy?: number;
  readonly gemm: Map<string, number>;
}

/** Runs cases that would take longer than this many times the budget of a case are left out. */
const patience = 20;

/** Compares the small form of a case with the f64 reference; gives what differs. */
async function wrongness(
  contender: Contender,
  op: OpCase,
  expected: readonly Float64Array[],
  seed: number,
): Promise<string | undefined> {
  const got = await contender.results(op, seed);
  if (got.length !== expected.length) return `${got.length} results, ${expected.length} expected`;
  for (const [i, want] of expected.entries()) {
    const have = got[i]!;
    if (have.length !== want.length) return `result ${i} has ${have.length} numbers, ${want.length} expected`;
    let difference = 0;
    let norm = 0;
    for (const [j, w] of want.entries()) {
      difference += (have[j]! - w) ** 2;
      norm += w * w;
    }
    const relative = Math.sqrt(difference / Math.max(norm, 1e-30));
    if (!(relative <= op.tolerance))
      return `result ${i} differs from the reference by ${relative.toExponential(1)} of its norm, ${op.tolerance.toExponential(0)} is rounding`;
  }
  return undefined;
}

function copying(megabytes: number): OpCase {
  const count = megabytes * 2 ** 18;
  return {
    name: `copy ${megabytes} MiB`,
    dtype: 'f32',
    bound: 'copy',
    work: { bytes: 8 * count },
    sizes: [count],
    small: [257],
    quick: true,
    tolerance: 0,
    build: (data, [size]) => {
      const x = data.normal([size!]);
      const y = keep(data.device.empty([size!]));
      const copy = (): readonly Tensor[] => {
        data.device.runPrimitive('copy', { inputs: { x: x.view }, outputs: { y: y.view }, attrs: {} });
        return [y.alias()];
      };
      return { held: [x, y], run: copy };
    },
  };
}

/** The same by the device's own copy, which no kernel of ours is a part of. */
function moving(megabytes: number): OpCase {
  const bytes = megabytes * 2 ** 20;
  return {
    ...copying(megabytes),
    name: `memory copy ${megabytes} MiB`,
    build: (data, [size]) => {
      const x = data.normal([size!]);
      const y = keep(data.device.empty([size!]));
      const { memory } = data.device.backend;
      return {
        held: [x, y],
        run: () => {
          const [from, to] = [x.view, y.view];
          memory.copy(from.buffer, from.byteOffset, to.buffer, to.byteOffset, Math.min(bytes, x.byteLength));
          return [y.alias()];
        },
      };
    },
  };
}

/** Runs op cases on all contenders in turns, each checked against the reference first. */
export async function runOps(
  session: Session,
  contenders: readonly Contender[],
  cases: readonly OpCase[],
): Promise<void> {
  const reference = new BackendContender(referenceBackend(), {
    name: 'reference',
    kind: 'backend',
    device: 'f64 loops',
    driver: null,
    features: [],
  });
  const ceilings = new Map<Contender, Ceilings>(contenders.map((c) => [c, { gemm: new Map() }]));
  try {
    const dtypes = new Set(cases.filter((c) => c.bound === 'gemm').map((c) => c.dtype));
    const n = contenders.some((c) => c instanceof BackendContender && c.device.backend.caps.asynchronous) ? 4096 : 768;
    const probes: OpCase[] = [copying(64), moving(64), ...[...dtypes].map((dtype) => product(n, n, n, dtype))];
    for (const probe of probes)
      await runCase(session, contenders, { ...probe, name: `ceiling: ${probe.name}` }, reference, ceilings, true);
    for (const [i, op] of cases.entries()) {
      session.signal.throwIfAborted();
      session.say(`ops ${i + 1}/${cases.length}: ${op.name}`);
      await runCase(session, contenders, op, reference, ceilings, false);
    }
  } finally {
    await reference.close();
  }
}

async function runCase(
  session: Session,
  contenders: readonly Contender[],
  op: OpCase,
  reference: Contender,
  ceilings: Map<Contender, Ceilings>,
  isCeiling: boolean,
): Promise<void> {
  const { seed, seconds, full } = session.options;
  const expected = await reference.results(op, seed);
  const lanes: { contender: Contender; prepared: Prepared }[] = [];
  try {
    for (const contender of contenders) {
      const miss = (status: 'wrong' | 'failed' | 'refused', reason: string) =>
        session.miss('ops', op.name, contender.facts, status, reason);
      try {
        const ceiling = ceilings.get(contender)!;
        const rate = op.bound === 'gemm' ? ceiling.gemm.get(op.dtype) : ceiling.copy;
        const estimate = rate ? (op.bound === 'gemm' ? op.work.flops! : op.work.bytes!) / rate : 0;
        const limit = patience * Math.max(seconds, 0.05);
        if (estimate > limit) {
          miss(
            'refused',
            `a run would take ${estimate.toFixed(0)} s or more on ${contender.facts.name}; --seconds ${Math.ceil(estimate / patience)} allows it`,
          );
          continue;
        }
        const prepared = await contender.prepare(op, seed);
        if (!prepared) continue;
        lanes.push({ contender, prepared });
        const wrong = await wrongness(contender, op, expected, seed);
        if (wrong) {
          lanes.pop();
          prepared.dispose();
          miss('wrong', wrong);
        }
      } catch (error) {
        if (lanes.at(-1)?.contender === contender) lanes.pop()!.prepared.dispose();
        miss(error instanceof Refused ? 'refused' : 'failed', reasonOf(error));
      }
    }
    if (!lanes.length) return;
    const timed = await measure(
      lanes.map((l) => l.prepared),
      { seconds, minSamples: full ? 15 : 5, maxSamples: full ? 200 : 50, signal: session.signal },
    );
    for (const [i, { contender }] of lanes.entries()) {
      const { samples, cpuSamples } = timed[i]!;
      const own = ceilings.get(contender)!;
      const perSecond = ((op.bound === 'gemm' ? op.work.flops! : op.work.bytes!) * 1000) / summarize(samples).median;
      if (isCeiling) {
        if (op.bound === 'gemm') own.gemm.set(op.dtype, perSecond);
        else own.copy = Math.max(own.copy ?? 0, perSecond);
      }
      const top = op.bound === 'gemm' ? own.gemm.get(op.dtype) : own.copy;
      const version = contender.facts.kind === 'peer' ? packageVersion(contender.facts.name) : undefined;
      session.add(
        'ops',
        op.name,
        contender.facts,
        {
          samples: [...samples],
          // a peer's own threads, if it has any, are in this process as well
          cpuSamples: [...cpuSamples],
          work: op.work,
          ...(top ? { ceiling: { of: op.bound, perSecond: top, share: perSecond / top } } : {}),
          figures: {},
          notes: contender instanceof BackendContender ? fallbackNotes(contender.device) : [],
        },
        version ? { [contender.facts.name]: version } : {},
      );
    }
  } finally {
    for (const { prepared } of lanes) prepared.dispose();
  }
}

const noted = new WeakMap<Device, number>();

/** Fallbacks that came since the last question. */
function fallbackNotes(device: Device): string[] {
  const all = device.explain();
  const seen = noted.get(device) ?? 0;
  noted.set(device, all.length);
  return all.slice(seen).map((f) => `${f.op} ran as primitives: ${f.reason}`);
}
