import { reasonOf } from '../backends.ts';
import type { Message, StepCase } from '../jobs/protocol.ts';
import { type Runner, startJob } from '../jobs/runner.ts';
import type { CaseShape, ContenderFacts } from '../record.ts';
import type { Session } from '../session.ts';
import { flopsPerToken, fullFlopsPerToken, rawConfig, type ShapeName, shapeOf } from '../shapes.ts';

export interface TrainCase extends Omit<StepCase, 'seed' | 'threads' | 'dtype'> {
  readonly name: string;
  readonly shape: ShapeName;
  readonly quick: boolean;
  /** Of the backend's preference where absent. */
  readonly dtype?: StepCase['dtype'];
}

function step(
  shape: ShapeName,
  method: StepCase['method'],
  rest: Partial<Omit<TrainCase, 'shape' | 'method' | 'name'>> = {},
): TrainCase {
  const c = { batch: 1, length: 256, rank: 16, recompute: 'none', record: 'auto', quick: false, ...rest } as const;
  const words = [
    method,
    shape,
    ...(c.layers ? [`${c.layers} layers`] : []),
    `${c.batch}×${c.length}`,
    ...(method === 'full' ? [] : [`r ${c.rank}`]),
    `recompute ${c.recompute}`,
    ...(c.offload ? ['offload'] : []),
    ...(c.callByCall ? ['call by call'] : c.record === 'off' ? ['eager'] : []),
    ...(c.dtype ? [c.dtype] : []),
  ];
  return { ...c, shape, method, name: words.join(' ') };
}

const quick = { layers: 3, length: 128, quick: true } as const;
/** Series on one processor, so that all the points of a curve take minutes; the whole models come after. */
const slim = { layers: 3 } as const;
/** Of the series of whole models. */
const big = { length: 2048, recompute: 'block' } as const;
const lengths = [256, 512, 1024, 2048, 4096, 8192];
const ranks = [4, 16, 64, 256];
const batches = [1, 2, 4, 8];

/** Every training step, names unique. */
export const trainCases: readonly TrainCase[] = [
  step('smollm2-135m', 'qlora', quick),
  step('smollm2-135m', 'qlora', { ...quick, record: 'off' }),
  step('smollm2-135m', 'lora', quick),
  step('smollm2-135m', 'full', quick),
  ...[64, 256].map((length) => step('smollm2-135m', 'qlora', { ...quick, length })),
  ...[512, 1024].map((length) => step('smollm2-135m', 'qlora', { ...slim, length })),
  ...ranks.map((rank) => step('smollm2-135m', 'qlora', { ...slim, rank })),
  ...batches.map((batch) => step('smollm2-135m', 'qlora', { ...slim, batch })),
  ...[1, 6, 12].map((layers) => step('smollm2-135m', 'qlora', { layers })),
  ...(['qlora', 'lora', 'full'] as const).map((method) => step('smollm2-135m', method)),
  step('smollm2-135m', 'qlora', { batch: 8, length: 512 }),
  step('smollm2-135m', 'lora', { length: 512 }),
  ...lengths.map((length) => step('smollm2-135m', 'qlora', { length })),
  ...ranks.map((rank) => step('smollm2-135m', 'qlora', { rank })),
  ...batches.map((batch) => step('smollm2-135m', 'qlora', { batch })),
  step('smollm2-135m', 'qlora', { layers: 15 }),
  ...(['selective', 'block'] as const).map((recompute) => step('smollm2-135m', 'qlora', { recompute })),
  ...(['qlora', 'lora'] as const).map((method) => step('llama-3.2-1b', method, { length: 512, recompute: 'block' })),
  ...([1, 4] as const).flatMap((batch) => [
    step('llama-3.1-8b', 'qlora', { batch, length: 2048, recompute: 'block' }),
    step('llama-3.1-8b', 'qlora', { batch, length: 2048, recompute: 'selective' }),
  ]),
  ...lengths.map((length) => step('llama-3.1-8b', 'qlora', { ...big, length })),
  ...ranks.map((rank) => step('llama-3.1-8b', 'qlora', { ...big, rank })),
  ...batches.map((batch) => step('llama-3.1-8b', 'qlora', { ...big, batch })),
  ...[4, 8, 16].map((layers) => step('llama-3.1-8b', 'qlora', { ...big, layers })),
  step('llama-3.1-8b', 'qlora', { batch: 2, length: 2048 }),
  step('llama-3.1-8b', 'lora', { batch: 4, length: 2048, recompute: 'block' }),
  ...([1, 4] as const).map((batch) =>
    step('llama-3.1-8b', 'qlora', { batch, length: 2048, recompute: 'block', offload: true }),
  ),
  ...([1, 4] as const).map((batch) =>
    step('llama-3.1-8b', 'qlora', { batch, length: 2048, recompute: 'selective', offload: true }),
  ),
  step('llama-3.1-8b', 'lora', { batch: 4, length: 2048, recompute: 'block', offload: true }),
  step('llama-3.1-8b', 'lora', { batch: 2, length: 2048, recompute: 'selective' }),
  step('llama-3.1-8b', 'lora', { batch: 2, length: 2048 }),
  step('smollm2-135m', 'qlora', { batch: 8, length: 512, callByCall: true }),
  step('llama-3.1-8b', 'qlora', { batch: 4, length: 2048, recompute: 'block', callByCall: true }),
].filter((c, i, all) => all.findIndex((other) => other.name === c.name) === i);

/** What a case's sizes are, for the curves. */
const sizesOf = (c: TrainCase): CaseShape => ({
  model: c.shape,
  method: c.method,
  batch: c.batch,
  length: c.length,
  ...(c.method === 'full' ? {} : { rank: c.rank }),
  layers: c.layers ?? shapeOf(c.shape).layers,
  recompute: c.offload ? `${c.recompute}, offload` : c.recompute,
  ...(c.callByCall ? { record: 'call by call' } : c.record === 'off' ? { record: 'off' } : {}),
});

/** A process that runs steps, by what it is called and how it is started. */
export interface StepRunner {
  /** As far as it is known before it runs. */
  readonly facts: ContenderFacts;
  readonly dtype: StepCase['dtype'];
  /** False where it has no such step: a case it is not asked for. */
  takes?(c: TrainCase): boolean;
  start(job: StepCase & { config: Record<string, unknown> }, signal?: AbortSignal): StepProcess;
}

/** What a runner says and is told. */
export type StepProcess = Pick<Runner, 'ask' | 'finish' | 'expect'> & AsyncDisposable;

/** A backend's steps: this program again, in a process of its own. */
export function backendRunner(name: string, facts: ContenderFacts, dtype: StepCase['dtype']): StepRunner {
  return {
    facts,
    dtype,
    // a device that is this process runs call by call as it is
    takes: (c) => !c.callByCall || name === 'cuda',
    start: ({ config: _, ...job }, signal) => startJob('step-job', facts.name, [name, JSON.stringify(job)], signal),
  };
}

type Ready = Extract<Message, { event: 'ready' }>;

/** Runs each case on all runners, a step of each in turns. */
export async function runTrain(
  session: Session,
  runners: readonly StepRunner[],
  cases: readonly TrainCase[],
): Promise<void> {
  for (const [i, c] of cases.entries()) {
    session.signal.throwIfAborted();
    session.say(`train ${i + 1}/${cases.length}: ${c.name}`);
    await runCase(session, runners, c);
  }
}

interface Lane {
  readonly runner: StepRunner;
  readonly process: StepProcess;
  readonly ready: Ready;
  readonly samples: number[];
  readonly cpuSamples: number[];
}

async function runCase(session: Session, runners: readonly StepRunner[], c: TrainCase): Promise<void> {
  const { seed, threads, full } = session.options;
  const { name, quick: _, ...job } = c;
  const lanes: Lane[] = [];
  await using open = new AsyncDisposableStack();
  const miss = (runner: StepRunner, error: unknown) => {
    session.signal.throwIfAborted(); // an interrupted runner has not failed
    session.miss('train', name, runner.facts, 'failed', reasonOf(error));
  };
  await session.look();
  // all at once: most of a start is reading libraries and compiling, and nothing is timed yet
  const started = runners
    .filter((runner) => !runner.takes || runner.takes(c))
    .map((runner) => {
      const process = open.use(
        runner.start(
          {
            ...job,
            dtype: c.dtype ?? runner.dtype,
            seed,
            ...(threads ? { threads } : {}),
            config: rawConfig(c.shape, c.layers),
          },
          session.signal,
        ),
      );
      return { runner, process, ready: process.expect('ready') };
    });
  await Promise.allSettled(started.map(({ ready }) => ready));
  for (const { runner, process, ready } of started)
    try {
      lanes.push({ runner, process, ready: await ready, samples: [], cpuSamples: [] });
    } catch (error) {
      miss(runner, error);
    }
  const rounds = full ? 12 : 5;
  let live = [...lanes];
  session.lookFrom();
  for (let round = 0; round < rounds; round++)
    for (const lane of round % 2 ? [...live].reverse() : [...live]) {
      session.signal.throwIfAborted();
      try {
        lane.process.ask();
        const { milliseconds, cpuMilliseconds } = await lane.process.expect('step');
        lane.samples.push(milliseconds);
        lane.cpuSamples.push(cpuMilliseconds);
      } catch (error) {
        miss(lane.runner, error);
        live = live.filter((l) => l !== lane);
      }
    }
  // a runner that does not tell its processor time cannot be told from other programs
  if (live.length && live.every((l) => l.cpuSamples.every((ms) => ms > 0)))
    session.lookBack(lanes.flatMap((l) => l.cpuSamples).reduce((sum, ms) => sum + ms, 0));
  const config = shapeOf(c.shape, c.layers);
  const tokens = c.batch * c.length;
  const flops =
    tokens * (c.method === 'full' ? fullFlopsPerToken(config, c.length) : flopsPerToken(config, c.length, c.rank));
  for (const { runner, process: child, ready, samples, cpuSamples } of live)
    try {
      child.finish();
      const { figures, notes } = await child.expect('done');
      const { device, driver, features, packages } = ready;
      const contender = { ...runner.facts, device, driver, features };
      const wrong = wrongLoss(figures.loss, config.vocabSize);
      if (wrong) session.miss('train', name, contender, 'wrong', wrong);
      else
        session.add(
          'train',
          name,
          contender,
          { samples, cpuSamples, work: { flops, tokens }, figures, notes },
          { packages, shape: { ...sizesOf(c), dtype: c.dtype ?? runner.dtype } },
        );
    } catch (error) {
      miss(runner, error);
    }
}

/** Random tokens can be guessed no better than evenly, and weights of this size start near that. A step that computes something else has no speed. */
function wrongLoss(loss: number | undefined, vocabulary: number): string | undefined {
  if (loss === undefined) return undefined;
  const even = Math.log(vocabulary);
  return Math.abs(loss - even) < 2
    ? undefined
    : `the loss on random tokens is ${loss}, ln(vocabulary) is ${even.toFixed(2)}`;
}
