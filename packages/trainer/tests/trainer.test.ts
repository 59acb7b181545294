import { type Backend, Device, keep, nullBackend, type Tensor, tracing } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import {
  type CheckpointStore,
  Dataset,
  detectAnomalies,
  type EvaluationRecord,
  evaluate,
  MemoryCheckpoints,
  MetricsList,
  type StepInfo,
  type StepRecord,
  type TrainableModel,
  Trainer,
  type TrainerOptions,
} from '../src/index.ts';
import {
  adapterFile,
  attach,
  randomData,
  readTensors,
  recordedData,
  tinyModel,
  trainable,
  withDevice,
  withTrainer,
} from './support.ts';

describe('a run', () => {
  test('reports every step in order, however seldom results are read', async () => {
    await withDevice(async (device) => {
      const seen: Record<number, StepRecord[]> = {};
      for (const loggingSteps of [1, 4, 1000]) {
        const records: StepRecord[] = (seen[loggingSteps] = []);
        const metrics = new MetricsList();
        const steps: number[] = [];
        await withTrainer(
          device,
          {
            loggingSteps,
            metrics,
            maxSteps: 11,
            evalData: randomData(3),
            evalSteps: 5,
            onLog: (r) => void records.push(r),
            onStep: ({ step }) => void steps.push(step),
          },
          async ({ trainer }) => {
            const result = await trainer.train();
            expect(result).toMatchObject({ stopped: 'finished', step: 11, loss: records.at(-1)!.loss });
            expect(result.inputTokens).toBe(records.reduce((n, r) => n + r.inputTokens, 0));
            expect(result.tokensPerSecond).toBeGreaterThan(0);
            expect(result.epoch).toBeCloseTo(2.2, 12);
          },
        );
        expect(steps).toEqual(records.map((r) => r.step));
        expect(records.map((r) => r.step)).toEqual(Array.from({ length: 11 }, (_, i) => i + 1));
        expect(metrics.metrics.map((m) => `${m.event} ${m.step}`).filter((m) => m.startsWith('e'))).toEqual([
          'evaluation 5',
          'evaluation 10',
          'evaluation 11',
        ]);
        for (const m of metrics.metrics) expect(JSON.parse(JSON.stringify(m))).toEqual(m);
      }
      const losses = Object.values(seen).map((r) =>
        r.map(({ loss, gradNorm, learningRate }) => [loss, gradNorm, learningRate]),
      );
      expect(losses[1]).toEqual(losses[0]);
      expect(losses[2]).toEqual(losses[0]);
    });
  });

  test('more steps than the device holds results of', async () => {
    const device = new Device(nullBackend());
    const weight = device.zeros([4, 8]).requireGrad();
    const model: TrainableModel = {
      parameters: () => [['w', weight]],
      hidden: (ids) => ids.device.zeros([...ids.shape, 8]),
      head: (rows) => rows.matmul(weight.transpose()),
    };
    const trainer = new Trainer({ device, model, data: randomData(4), maxSteps: 600, loggingSteps: 10000 });
    await trainer.train();
    expect(trainer.state.history).toHaveLength(600);
    trainer.dispose();
    weight.dispose();
    expect(device.memory().live).toBe(0);
  });

  test('learns, evaluates without dropout, keeps the best, stops early, and ends with the best parameters', async () => {
    await withDevice(async (device) => {
      const { data } = await recordedData();
      const evaluations: EvaluationRecord[] = [];
      const checkpoints = new MemoryCheckpoints({ keep: 1 });
      const options = {
        data: data.slice(0, 6),
        evalData: data.slice(6, 10),
        batchSize: 2,
        maxSteps: 200,
        learningRate: 0.02,
        lrScheduler: 'constant',
        evalSteps: 2,
        earlyStopping: { patience: 3 },
        loadBestAtEnd: true,
        checkpoints,
        p: 0.1,
        onEvaluate: (r: EvaluationRecord) => void evaluations.push(r),
      } as const;
      await withTrainer(device, options, async ({ trainer, model }) => {
        const result = await trainer.train();
        expect(result.stopped).toBe('early');
        const losses = evaluations.map((e) => e.loss);
        const lowest = losses.indexOf(Math.min(...losses));
        expect(evaluations).toHaveLength(lowest + 1 + 3);
        expect(evaluations.map((e) => e.best)).toEqual(
          losses.map((l, i) => l < Math.min(Infinity, ...losses.slice(0, i))),
        );
        expect(result.best).toEqual({ step: evaluations[lowest]!.step, loss: losses[lowest] });
        expect(checkpoints.steps).toEqual([result.best!.step, result.step]);
        expect((await evaluate(device, model, options.evalData, { batchSize: 2 })).loss).toBe(losses[lowest]);
        expect(evaluations[0]!.perplexity).toBeCloseTo(Math.exp(losses[0]!), 12);
      });
    });
  });

  test('best parameters whose checkpoint is gone are missed', async () => {
    await withDevice(async (device) => {
      const kept = new MemoryCheckpoints();
      const forgetful: CheckpointStore = { save: (c) => kept.save(c), load: async () => undefined };
      const { data } = await recordedData();
      const options = {
        data: data.slice(0, 6),
        evalData: data.slice(6, 10),
        maxSteps: 4,
        evalSteps: 1,
        learningRate: 1, // leads away from the first step's parameters
        loadBestAtEnd: true,
        checkpoints: forgetful,
      };
      await withTrainer(device, options, async ({ trainer }) => {
        await expect(trainer.train()).rejects.toThrow(
          /checkpoint: the best one is gone: step \d.*the last one holds step 4/,
        );
      });
      expect(kept.steps).toContain(4);
    });
  });

  test('evaluation does not depend on how data are cut into batches', async () => {
    await withDevice(async (device) => {
      const data = randomData(23);
      await withTrainer(device, {}, async ({ model }) => {
        const results = [];
        for (const batchSize of [1, 4, 23]) results.push(await evaluate(device, model, data, { batchSize }));
        for (const r of results) {
          expect(r).toMatchObject({ tokens: results[0]!.tokens, samples: 23 });
          expect(Math.abs(r.loss / results[0]!.loss - 1)).toBeLessThan(1e-6);
        }
      });
    });
  });

  test('an abort stops after the step under way, with a checkpoint, also in the middle of accumulation', async () => {
    await withDevice(async (device) => {
      const abort = new AbortController();
      const checkpoints = new MemoryCheckpoints();
      const onStep = ({ step }: { step: number }) => (step === 3 ? abort.abort() : undefined);
      await withTrainer(
        device,
        { checkpoints, signal: abort.signal, onStep, gradientAccumulationSteps: 2 },
        async ({ trainer }) => {
          const result = await trainer.train();
          expect(result).toMatchObject({ stopped: 'aborted', step: 3, checkpoint: 'memory, step 3' });
          expect(trainer.state.history).toHaveLength(3);
          for (const unit of trainer.parameters.units)
            expect(Math.max(...(await unit.grad.toArray()).map(Math.abs))).toBe(0);
        },
      );
      expect(checkpoints.steps).toEqual([3]);
    });
  });

  test('an error of a callback ends the run', async () => {
    await withDevice(async (device) => {
      const onLog = async () => {
        throw new Error('sink is full');
      };
      await withTrainer(device, { onLog }, async ({ trainer }) => {
        await expect(trainer.train()).rejects.toThrow('sink is full');
      });
    });
  });

  test('settings that cannot be meant', async () => {
    await withDevice(async (device) => {
      const base = await tinyModel(device);
      const lora = attach(base, device, await readTensors(adapterFile), 2);
      const make = (options: Partial<TrainerOptions>) => () =>
        new Trainer({ device, model: trainable(base, lora.parameters), data: randomData(4), ...options });
      expect(make({ batchSize: 0 })).toThrow(/train: batchSize must be a whole number of at least 1: 0/);
      expect(make({ learningRate: -1 })).toThrow(/learningRate must not be negative: -1/);
      expect(make({ learningRate: Number.NaN })).toThrow(/learningRate/);
      expect(make({ numEpochs: 0 })).toThrow(/numEpochs/);
      expect(make({ seed: 1.5 })).toThrow(/seed/);
      expect(make({ offload: true })).toThrow(/train: this backend has no host memory to offload to: cpu/);
      const narrow = { ...trainable(base, lora.parameters), vocabSize: 100 };
      expect(make({ model: narrow })).toThrow(/id that the model does not know: \d+, its vocabulary has 100/);
      expect(make({ learning_rate: 1 } as object)).toThrow('unknown option: learning_rate. Did you mean learningRate?');
      expect(make({ lrScheduler: 'cosin', warmupSteps: 9 } as object)).toThrow(
        'train: lrScheduler must be one of constant, linear, cosine: cosin',
      );
      expect(make({ optimizer: { kind: 'adam' } } as object)).toThrow('optimizer.kind must be one of adamw, sgd: adam');
      expect(make({ recompute: 'full' } as object)).toThrow('recompute must be one of none, selective, block: full');
      expect(make({ evalSteps: 5 })).toThrow(/needs evalData/);
      expect(make({ saveSteps: 5 })).toThrow(/checkpoint store/);
      expect(make({ earlyStopping: { patience: 1 }, evalData: randomData(1) })).toThrow(/needs evalSteps/);
      expect(make({ optimizer: { kind: 'adamw', beta2: 1 } })).toThrow(/betas must be/);
      expect(make({ optimizer: { kind: 'sgd', momentum: 2 } })).toThrow(/momentum must be/);
      expect(make({ data: randomData(4, { longest: 20 }), packing: true, rowLength: 8 })).toThrow(/longer than a row/);
      const sample = (labels: number[]) => ({
        ids: Int32Array.of(3, 4, 5),
        labels: Int32Array.from(labels),
        where: 'it',
      });
      const of = (...labels: number[][]) => new Dataset(labels.map(sample), { padTokenId: 0 });
      // the first label is predicted by nothing
      expect(make({ data: of([-100, 4, 5], [3, -100, -100]) })).toThrow('train: all labels of a sample are masked: it');
      await expect(evaluate(device, trainable(base, lora.parameters), of([3, -100, -100]))).rejects.toThrow(
        'evaluate: no label counts: 1 samples',
      );
      expect(make({ model: narrow, data: of([3, 4, 100]) })).toThrow(/does not know: 100/);
      expect(() => of([3, 4, -1])).toThrow('data: ids must not be negative, nor labels other than −100: it');
      lora.dispose();
      base.dispose();
    });
  });
});

describe('numbers that are not finite', () => {
  const broken = async (device: Device, fail: (logits: Tensor) => Tensor, options: Partial<TrainerOptions>) => {
    const base = await tinyModel(device);
    const lora = attach(base, device, await readTensors(adapterFile), 2);
    let calls = 0;
    const model: TrainableModel = {
      ...trainable(base, lora.parameters),
      // from the third step on
      head: (rows) => (++calls > 2 ? fail(base.head(rows)) : base.head(rows)),
    };
    const trainer = new Trainer({
      device,
      model,
      data: randomData(40),
      batchSize: 4,
      padTo: 'max',
      rowLength: 24,
      record: 'off',
      ...options,
    });
    const error = await trainer.train().then(
      () => undefined,
      (e: Error) => e.message,
    );
    trainer.dispose();
    lora.dispose();
    base.dispose();
    return error;
  };
  /** 0 / 0 */
  const nan = (x: Tensor) => x.add(x.sub(x).div(x.sub(x)));

  test('end the run with the step, however late the loss is read', async () => {
    await withDevice(async (device) => {
      for (const loggingSteps of [1, 7])
        expect(await broken(device, nan, { loggingSteps })).toMatch(
          /^train: the loss is not finite: NaN at step 3\. .*--detect-anomaly/,
        );
    });
  });

  test('name the op that came first, on request', async () => {
    let monitor: ReturnType<typeof detectAnomalies> | undefined;
    await withDevice(
      async (device) => {
        const message = await broken(device, nan, { anomalies: monitor! });
        expect(message).toMatch(
          /NaN at step 3; first in binary: y \[\d+,128\] f32 from finite operands \(a \[\d+,128\] f32, b/,
        );
        expect(await monitor!.first()).toBeUndefined();
      },
      { fused: 'off', wrap: (backend) => (monitor = detectAnomalies(backend)).backend },
    );
  });

  test('a monitor sees what was not finite from the start, and no masks', async () => {
    let monitor: ReturnType<typeof detectAnomalies> | undefined;
    await withDevice(
      async (device) => {
        const x = device.tensor([1, Number.NaN, 3]);
        const y = keep(x.mul(2));
        expect(await monitor!.first()).toMatchObject({ op: 'unary', output: 'y [3] f32', kind: 'passed on' });
        const mask = keep(device.full([3], Number.NEGATIVE_INFINITY));
        const e = keep(mask.exp());
        expect(await monitor!.first()).toBeUndefined();
        const half = device.tensor([60000], { dtype: 'f16' });
        const big = keep(half.mul(2));
        expect(await monitor!.first()).toMatchObject({ op: 'unary', output: 'y [1] f16', kind: 'made', call: 0 });
        for (const t of [x, y, mask, e, half, big]) t.dispose();
      },
      { wrap: (backend) => (monitor = detectAnomalies(backend)).backend },
    );
  });
});

describe('a device that runs behind the host', () => {
  /** Results of reads come late (not before `until`), as they were when they were asked for. */
  const late =
    (until: () => Promise<void>) =>
    (backend: Backend): Backend => ({
      ...backend,
      caps: { ...backend.caps, asynchronous: true },
      memory: {
        ...backend.memory,
        read: async (...args) => {
          const bytes = await backend.memory.read(...args);
          await until();
          return bytes;
        },
      },
    });

  test('steps go on while results are on their way; none is lost', async () => {
    const events: string[] = [];
    // a read that is asked for while steps go on has its answer after the next of them
    let waiting: (() => void)[] = [];
    const nextStep = () =>
      events.includes('step 25') ? Promise.resolve() : new Promise<void>((resolve) => void waiting.push(resolve));
    await withDevice(
      async (device) => {
        const onStep = ({ step }: StepInfo) => {
          events.push(`step ${step}`);
          for (const resolve of waiting) resolve();
          waiting = [];
        };
        const onLog = ({ step }: StepInfo) => void events.push(`log ${step}`);
        await withTrainer(device, { maxSteps: 25, onStep, onLog }, async ({ trainer }) => {
          await trainer.train();
          expect(trainer.state.history.map((h) => h.step)).toEqual(Array.from({ length: 25 }, (_, i) => i + 1));
        });
      },
      { wrap: late(nextStep) },
    );
    // read every 10 steps by default, and not waited for
    expect(events.indexOf('step 11')).toBeLessThan(events.indexOf('log 1'));
    expect(events.indexOf('log 10')).toBeLessThan(events.indexOf('step 21'));
    expect(events.filter((e) => e.startsWith('log'))).toHaveLength(25);
  });

  test('an error found late ends the run, and none is unhandled', async () => {
    await withDevice(
      async (device) => {
        const onLog = () => {
          throw new Error('sink is full');
        };
        await withTrainer(device, { maxSteps: 25, loggingSteps: 2, onLog }, async ({ trainer }) => {
          await expect(trainer.train()).rejects.toThrow('sink is full');
          expect(trainer.state.step).toBe(4);
        });
      },
      { wrap: late(() => new Promise((resolve) => setTimeout(resolve, 20))) },
    );
  });
});

test('the order of device work: no read and no wait between steps', async () => {
  const events: string[] = [];
  await withDevice(
    async (device) => {
      const { read } = device.backend.memory;
      Object.assign(device.backend.memory, {
        read: (...args: Parameters<typeof read>) => {
          events.push('read');
          return read(...args);
        },
      });
      await withTrainer(
        device,
        { maxSteps: 6, loggingSteps: 3, onStep: ({ step }) => void events.push(`step ${step}`) },
        ({ trainer }) => trainer.train(),
      );
    },
    { wrap: (backend) => tracing({ ...backend, memory: { ...backend.memory } }, () => {}) },
  );
  const from = events.indexOf('step 1');
  expect(events.slice(from)).toEqual(['step 1', 'step 2', 'step 3', 'read', 'step 4', 'step 5', 'step 6', 'read']);
});
