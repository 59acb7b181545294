import { type Device, keep, type Tensor } from '@lowrank/tensor';
import { referenceBackend } from '@lowrank/testkit';
import { fallbackNote, reasonOf } from '../backends.ts';
import { isSoftware } from '../environment.ts';
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

const exponential = (x: number) => x.toExponential(1);

/** Largest relative difference of norms from what is expected, or what else is wrong. */
function compare(got: readonly Float64Array[], expected: readonly Float64Array[]): number | string {
  if (got.length !== expected.length) return `${got.length} results, ${expected.length} expected`;
  let worst = 0;
  for (const [i, want] of expected.entries()) {
    const have = got[i]!;
    if (have.length !== want.length) return `result ${i} has ${have.length} numbers, ${want.length} expected`;
    let gap = 0;
    let norm = 0;
    for (const [j, w] of want.entries()) {
      gap += (have[j]! - w) ** 2;
      norm += w * w;
    }
    const relative = Math.sqrt(gap / Math.max(norm, 1e-30));
    worst = Math.max(worst, Number.isNaN(relative) ? Number.POSITIVE_INFINITY : relative);
  }
  return worst;
}

/** A synchronous device's primitives take a multiple of an op's time: longer ops are compared at the small sizes alone. */
const longestProof = 0.25;

/**
 * Compares a case with the f64 reference at small sizes, and at its own with other kernels of the device, since other variants may run
 * there. Gives the differences, or what is wrong.
 */
async function check(
  contender: Contender,
  op: OpCase,
  expected: readonly Float64Array[],
  seed: number,
  estimate: number,
): Promise<Record<string, number> | string> {
  const small = compare(await contender.results(op, seed), expected);
  if (typeof small === 'string') return small;
  const rounding = `${op.tolerance.toExponential(0)} is rounding`;
  if (small > op.tolerance)
    return `results differ from the reference by ${exponential(small)} of their norm, ${rounding}`;
  const own = contender instanceof BackendContender ? contender : undefined;
  const brief = own?.device.backend.caps.asynchronous || estimate <= longestProof;
  const whole = own && brief ? await own.difference(op, seed) : undefined;
  if (whole !== undefined && !(whole <= Math.max(op.tolerance, 1e-6)))
    return `at its own sizes it differs from other kernels of the device by ${exponential(whole)} of the norm, ${rounding}`;
  return { difference: small, ...(whole === undefined ? {} : { differenceAtShape: whole }) };
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
    alone: true,
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
    recorded: false,
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

/** The side of a square product that a contender does at its best rate, and soon. */
const largeOf = ({ apart, facts }: Contender) => (isSoftware(facts.device) ? 192 : apart ? 4096 : 768);

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
    const large = Map.groupBy(contenders, largeOf);
    for (const [n, group] of large)
      for (const probe of [copying(64), moving(64), ...[...dtypes].map((dtype) => product(n, n, n, dtype))])
        await runCase(session, group, { ...probe, name: `ceiling: ${probe.name}` }, reference, ceilings, true);
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
  const lanes: { contender: Contender; prepared: Prepared; figures: Record<string, number> }[] = [];
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
        if (contender.takes && !contender.takes(op)) continue;
        const checked = await check(contender, op, expected, seed, estimate);
        if (typeof checked === 'string') {
          miss('wrong', checked);
          continue;
        }
        const prepared = await contender.prepare(op, seed);
        lanes.push({ contender, prepared, figures: checked });
      } catch (error) {
        miss(error instanceof Refused ? 'refused' : 'failed', reasonOf(error));
      }
    }
    if (!lanes.length) return;
    session.lookFrom();
    const timed = await measure(
      lanes.map((l) => l.prepared),
      { seconds, minSamples: full ? 15 : 5, maxSamples: full ? 200 : 50, signal: session.signal },
    );
    session.lookBack();
    for (const [i, { contender, figures }] of lanes.entries()) {
      const { samples, cpuSamples } = timed[i]!;
      const own = ceilings.get(contender)!;
      const perSecond = ((op.bound === 'gemm' ? op.work.flops! : op.work.bytes!) * 1000) / summarize(samples).median;
      if (isCeiling) {
        if (op.bound === 'gemm') own.gemm.set(op.dtype, perSecond);
        else own.copy = Math.max(own.copy ?? 0, perSecond);
      }
      const top = op.bound === 'gemm' ? own.gemm.get(op.dtype) : own.copy;
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
          figures,
          notes: contender instanceof BackendContender ? fallbackNotes(contender.device) : [],
        },
        contender.packages ? { packages: contender.packages } : {},
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
  return all.slice(seen).map(fallbackNote);
}
