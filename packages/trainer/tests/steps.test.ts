import { type Device, noGrad, type Tensor } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import { Dataset, evaluate, Trainer, type TrainerOptions } from '../src/index.ts';
import {
  adapterFile,
  attach,
  randomData,
  readTensors,
  recordedData,
  relative,
  tinyModel,
  trainable,
  withDevice,
  withTrainer,
} from './support.ts';

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
      const options = { data, batchSize: 1, padToMultipleOf: 1, numEpochs: 2, recordedShapes: 2 };
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
