import { Device, keep, noGrad, nullBackend, type Tensor, tracing } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import {
  Dataset,
  detectAnomalies,
  type EvaluationRecord,
  evaluate,
  MemoryCheckpoints,
  MetricsList,
  type StepRecord,
  type TrainableModel,
  Trainer,
  type TrainerOptions,
} from '../src/index.ts';
import {
  attach,
  randomData,
  readTensors,
  recordedData,
  relative,
  tinyModel,
  trainable,
  withDevice,
} from './support.ts';

const adapterFile = 'peft-tiny/lora/adapter/adapter_model.safetensors';

interface Run {
  readonly trainer: Trainer;
  readonly model: TrainableModel;
  readonly parameters: ReadonlyMap<string, Tensor>;
}

/** A trainer of the tiny LoRA model, cleaned up afterwards. Dropout of `p` on every adapter. */
async function withTrainer<T>(
  device: Device,
  options: Partial<TrainerOptions> & { p?: number },
  use: (run: Run) => Promise<T>,
): Promise<T> {
  const { p = 0, ...rest } = options;
  const base = await tinyModel(device);
  const lora = attach(base, device, await readTensors(adapterFile), 2);
  const dropoutSeed = p > 0 ? device.seed(0) : undefined;
  const model = trainable(base, lora.parameters, (on) => {
    for (const [site, a] of lora.adapters.entries()) a.drop = { p: on ? p : 0, seed: dropoutSeed, site };
  });
  const data = rest.data ?? randomData(20);
  const trainer = new Trainer({ device, model, data, batchSize: 4, learningRate: 1e-2, dropoutSeed, ...rest });
  try {
    return await use({ trainer, model, parameters: lora.parameters });
  } finally {
    trainer.dispose();
    dropoutSeed?.dispose();
    lora.dispose();
    base.dispose();
  }
}

/** Every trained byte, after a run. */
async function bytesAfter(device: Device, options: Partial<TrainerOptions> & { p?: number }): Promise<string> {
  return withTrainer(device, options, async ({ trainer, parameters }) => {
    await trainer.train();
    const parts = await Promise.all([...parameters.values()].map((t) => t.bytes()));
    return parts.map((b) => Buffer.from(b).toString('base64')).join();
  });
}

describe('steps', () => {
  test.each([
    { name: 'plain', extra: {} },
    { name: 'dropout', extra: { p: 0.2 } },
    {
      name: 'packed, accumulated',
      extra: { packing: true, rowLength: 32, batchSize: 2, gradientAccumulationSteps: 2 },
    },
    { name: 'each alone', extra: { flatten: 'off', maxGradNorm: 0.5 } },
    { name: 'recompute', extra: { recompute: 'block', p: 0.2 } },
    { name: 'plain descent', extra: { optimizer: { kind: 'sgd', momentum: 0.9 } } },
  ] as const)('recorded and replayed are bit-equal to eager: $name', async ({ extra }) => {
    await withDevice(async (device) => {
      const options = { padTo: 'max', padToMultipleOf: 24, numEpochs: 2, ...extra } as const;
      const eager = await bytesAfter(device, { ...options, record: 'off' });
      expect(await bytesAfter(device, { ...options, record: 'auto' })).toBe(eager);
      // and that they did learn something
      expect(await bytesAfter(device, { ...options, seed: 5, record: 'off' })).not.toBe(eager);
    });
  });

  test('a warm loop replays: it allocates nothing, and infers nothing', async () => {
    await withDevice(async (device) => {
      const { data, batchSize } = await recordedData();
      const allocations: number[] = [];
      const onStep = () => void allocations.push(device.memory().allocations);
      await withTrainer(
        device,
        { data, batchSize, shuffle: false, maxSteps: 9, loggingSteps: 100, onStep },
        async ({ trainer }) => {
          await trainer.train();
          expect(trainer.recorded).toBeGreaterThan(0);
        },
      );
      const fresh = allocations.slice(1).map((n, i) => n - allocations[i]!);
      // batches of this file come in more than one shape of head rows; each is recorded once
      expect(fresh.slice(-3)).toEqual([0, 0, 0]);
    });
  });

  test('many shapes: few recordings, and the same result', async () => {
    await withDevice(async (device) => {
      const data = randomData(60, { longest: 40 });
      const options = { data, batchSize: 1, padToMultipleOf: 1, numEpochs: 2 };
      const eager = await bytesAfter(device, { ...options, record: 'off' });
      await withTrainer(device, options, async ({ trainer, parameters }) => {
        await trainer.train();
        expect(trainer.recorded).toBeLessThanOrEqual(2);
        const parts = await Promise.all([...parameters.values()].map((t) => t.bytes()));
        expect(parts.map((b) => Buffer.from(b).toString('base64')).join()).toBe(eager);
      });
    });
  });

  test('what goes on between steps does not disturb them', async () => {
    await withDevice(async (device) => {
      const bytes = async (between: boolean) => {
        const base = await tinyModel(device);
        const lora = attach(base, device, await readTensors(adapterFile), 2);
        const onStep = async ({ step }: { step: number }) => {
          if (!between || step % 3) return;
          // longer rotation tables, memory taken and given back, a forward pass
          base.prepare(60 * step);
          const ids = device.zeros([1, 8 * step], 'i32');
          const logits = noGrad(() => base.forward(ids));
          await logits.toArray();
          for (const t of [ids, logits]) t.dispose();
        };
        const options = {
          data: randomData(24),
          batchSize: 4,
          padTo: 'max',
          padToMultipleOf: 24,
          numEpochs: 2,
        } as const;
        const trainer = new Trainer({
          device,
          model: trainable(base, lora.parameters),
          ...options,
          learningRate: 0.01,
          onStep,
        });
        await trainer.train();
        expect(trainer.recorded).toBeGreaterThan(0);
        const parts = await Promise.all([...lora.parameters.values()].map((t) => t.bytes()));
        trainer.dispose();
        lora.dispose();
        base.dispose();
        return parts;
      };
      expect(await bytes(true)).toEqual(await bytes(false));
    });
  });

  test('a model that writes host data is not recorded, and says why', async () => {
    await withDevice(async (device) => {
      const base = await tinyModel(device);
      const lora = attach(base, device, await readTensors(adapterFile), 2);
      const model = {
        ...trainable(base, lora.parameters),
        head: (rows: Tensor) => base.head(rows).mul(device.tensor([1])),
      };
      const trainer = new Trainer({ device, model, data: randomData(12), batchSize: 4, padTo: 'max', maxSteps: 5 });
      await trainer.train();
      expect(trainer.recorded).toMatch(/host data cannot be written inside a recorded step/);
      expect(trainer.state.step).toBe(5);
      trainer.dispose();
      lora.dispose();
      base.dispose();
    });
  });

  test('k batches that add up are one batch of all their rows', async () => {
    await withDevice(async (device) => {
      const data = randomData(16);
      const values = async (options: Partial<TrainerOptions>) =>
        withTrainer(
          device,
          { data, shuffle: false, maxSteps: 2, optimizer: { kind: 'sgd' }, learningRate: 0.5, ...options },
          async ({ trainer, parameters }) => {
            await trainer.train();
            const all = await Promise.all([...parameters.values()].map((t) => t.toArray() as Promise<Float32Array>));
            return { all, history: trainer.state.history };
          },
        );
      const whole = await values({ batchSize: 8 });
      for (const [batchSize, gradientAccumulationSteps] of [
        [4, 2],
        [2, 4],
        [1, 8],
      ] as const) {
        const parts = await values({ batchSize, gradientAccumulationSteps });
        for (const [i, p] of parts.all.entries()) expect(relative(p, whole.all[i]!)).toBeLessThan(2e-6);
        for (const [i, h] of parts.history.entries())
          expect(Math.abs(h.loss / whole.history[i]!.loss - 1)).toBeLessThan(1e-6);
      }
    });
  });

  test('the loss of a step is the mean over its tokens that count, not the mean of means', async () => {
    await withDevice(async (device) => {
      // one sample learns 1 token, the other 20
      const ids = Int32Array.from({ length: 21 }, (_, i) => 3 + ((i * 37) % 120));
      const long = { ids, labels: ids.slice(), where: 'long' };
      const short = {
        ids: ids.slice(0, 8),
        labels: Int32Array.from({ length: 8 }, (_, i) => (i === 7 ? ids[7]! : -100)),
        where: 'short',
      };
      const data = new Dataset([long, short], { padTokenId: 2 });
      await withTrainer(
        device,
        { data, batchSize: 1, gradientAccumulationSteps: 2, shuffle: false, maxSteps: 1, learningRate: 0 },
        async ({ trainer, model }) => {
          const each = await Promise.all([0, 1].map(async (i) => evaluate(device, model, data.slice(i, i + 1))));
          expect(each.map((e) => e.tokens)).toEqual([20, 1]);
          await trainer.train();
          const wanted = (each[0]!.loss * 20 + each[1]!.loss) / 21;
          expect(Math.abs(trainer.state.history[0]!.loss / wanted - 1)).toBeLessThan(1e-6);
          const both = await evaluate(device, model, data, { batchSize: 2 });
          expect(both.tokens).toBe(21);
          expect(Math.abs(both.loss / wanted - 1)).toBeLessThan(1e-6);
        },
      );
    });
  });

  test('packing gives the losses and gradients of rows apart', async () => {
    await withDevice(async (device) => {
      const data = randomData(12, { longest: 14 });
      const values = async (options: Partial<TrainerOptions>) =>
        withTrainer(
          device,
          { data, shuffle: false, maxSteps: 1, optimizer: { kind: 'sgd' }, learningRate: 1, ...options },
          async ({ trainer, parameters }) => {
            await trainer.train();
            const all = await Promise.all([...parameters.values()].map((t) => t.toArray() as Promise<Float32Array>));
            return { all, loss: trainer.state.history[0]!.loss };
          },
        );
      const apart = await values({ batchSize: 12 });
      const packed = await values({ batchSize: 12, packing: true, rowLength: 32 });
      expect(Math.abs(packed.loss / apart.loss - 1)).toBeLessThan(1e-6);
      for (const [i, p] of packed.all.entries()) expect(relative(p, apart.all[i]!)).toBeLessThan(1e-6);
    });
  });

  test('dropout masks change from batch to batch, and follow the seed', async () => {
    await withDevice(async (device) => {
      const { data } = await recordedData();
      const losses = (options: object) =>
        withTrainer(
          device,
          { data: data.slice(0, 2), batchSize: 1, shuffle: false, maxSteps: 4, learningRate: 0, p: 0.5, ...options },
          async ({ trainer }) => {
            await trainer.train();
            return trainer.state.history.map((h) => h.loss);
          },
        );
      const [a, b, c] = [await losses({}), await losses({}), await losses({ seed: 9 })];
      expect(a).toEqual(b);
      expect(new Set([...a, ...c]).size).toBe(8);
    });
  });
});

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
      const narrow = { ...trainable(base, lora.parameters), vocabSize: 100 };
      expect(make({ model: narrow })).toThrow(/id that the model does not know: \d+, its vocabulary has 100/);
      expect(make({ evalSteps: 5 })).toThrow(/needs evalData/);
      expect(make({ saveSteps: 5 })).toThrow(/checkpoint store/);
      expect(make({ earlyStopping: { patience: 1 }, evalData: randomData(1) })).toThrow(/needs evalSteps/);
      expect(make({ optimizer: { kind: 'adamw', beta2: 1 } })).toThrow(/betas must be/);
      expect(make({ optimizer: { kind: 'sgd', momentum: 2 } })).toThrow(/momentum must be/);
      expect(make({ data: randomData(4, { longest: 20 }), packing: true, rowLength: 8 })).toThrow(/longer than a row/);
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
