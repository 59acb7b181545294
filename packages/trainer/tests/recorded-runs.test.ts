import { expect, test } from 'vitest';
import { MemoryCheckpoints, selectParameters, Trainer, type TrainerSettings } from '../src/index.ts';
import { attach, readJson, readTensors, recordedData, relative, tinyModel, trainable, withDevice } from './support.ts';

/** What run.json says of a run of PyTorch, as settings of ours. */
function settings(run: Record<string, unknown>, batchSize: number): TrainerSettings {
  return {
    batchSize,
    shuffle: false,
    maxSteps: run.steps as number,
    learningRate: run.lr as number,
    lrScheduler: run.schedule as 'constant' | 'cosine',
    warmupSteps: run.warmupSteps as number,
    weightDecay: run.weightDecay as number,
    decay: 'all',
    maxGradNorm: (run.maxGradNorm as number | null) ?? 0,
    loggingSteps: 3,
  };
}

/** Losses, norms, rates and final tensors as PyTorch and PEFT had them. */
function compare(trainer: Trainer, run: Record<string, number[]>): void {
  const { history } = trainer.state;
  expect(history).toHaveLength(run.losses!.length);
  for (const [i, { loss, gradNorm, learningRate }] of history.entries()) {
    expect(Math.abs(loss / run.losses![i]! - 1), `loss of step ${i + 1}`).toBeLessThan(1e-4);
    expect(Math.abs(gradNorm / run.gradNorms![i]! - 1), `norm of step ${i + 1}`).toBeLessThan(1e-4);
    expect(learningRate).toBeCloseTo(run.learningRates![i]!, 12);
  }
}

const variants = [
  { name: 'fused', fused: 'auto', extra: {} },
  { name: 'decomposed', fused: 'off', extra: {} },
  { name: 'eager, not gathered', fused: 'auto', extra: { record: 'off', flatten: 'off' } },
  { name: 'recompute block', fused: 'auto', extra: { recompute: 'block' } },
  { name: 'recompute selective', fused: 'auto', extra: { recompute: 'selective', chunkRows: 7 } },
] as const;

for (const name of ['lora', 'schedule'] as const)
  test.each(variants)(`trains as PEFT did: ${name}, $name`, async ({ fused, extra }) => {
    const run = readJson(`peft-tiny/${name}/run.json`);
    const { data, batchSize } = await recordedData();
    const wanted = await readTensors(`peft-tiny/${name}/run.safetensors`);
    await withDevice(
      async (device) => {
        const model = await tinyModel(device);
        const lora = attach(model, device, await readTensors('peft-tiny/lora/adapter/adapter_model.safetensors'), 2);
        const trainer = new Trainer({
          device,
          model: trainable(model, lora.parameters),
          data,
          ...settings(run, batchSize),
          ...extra,
        });
        expect(trainer.parameters.count).toBe(run.trainable);
        await trainer.train();
        compare(trainer, run);
        for (const [key, tensor] of lora.parameters)
          expect(relative(await tensor.toArray(), wanted.get(`final.${key}`)!.data), key).toBeLessThan(1e-3);
        trainer.dispose();
        lora.dispose();
        model.dispose();
      },
      { fused },
    );
  });

test.each(variants)('trains all parameters as PyTorch did: $name', async ({ fused, extra }) => {
  const run = readJson('peft-tiny/full/run.json');
  const { data, batchSize } = await recordedData();
  const wanted = await readTensors('peft-tiny/full/run.safetensors');
  await withDevice(
    async (device) => {
      const model = await tinyModel(device);
      const parameters = selectParameters(model);
      const trainer = new Trainer({
        device,
        model: trainable(model, parameters),
        data,
        ...settings(run, batchSize),
        ...extra,
      });
      expect(trainer.parameters.count).toBe(run.trainable);
      await trainer.train();
      compare(trainer, run);
      const finals = [...wanted.keys()].filter((k) => k.startsWith('final.'));
      expect(finals.length).toBeGreaterThan(4);
      for (const key of finals) {
        const tensor = parameters.get(key.slice('final.'.length))!;
        expect(relative(await tensor.toArray(), wanted.get(key)!.data), key).toBeLessThan(1e-3);
      }
      trainer.dispose();
      model.dispose();
    },
    { fused },
  );
});

test('the gradients of the first step are PEFT’s', async () => {
  const { data, batchSize } = await recordedData();
  const wanted = await readTensors('peft-tiny/lora/run.safetensors');
  await withDevice(async (device) => {
    const model = await tinyModel(device);
    const lora = attach(model, device, await readTensors('peft-tiny/lora/adapter/adapter_model.safetensors'), 2);
    // plain descent at rate 1 moves a parameter by its gradient
    const checkpoints = new MemoryCheckpoints();
    const before = new Map<string, Float32Array>();
    for (const [key, t] of lora.parameters) before.set(key, ((await t.toArray()) as Float32Array).slice());
    const optimizer = { kind: 'sgd' } as const;
    const trainer = new Trainer({
      device,
      model: trainable(model, lora.parameters),
      data,
      checkpoints,
      batchSize,
      shuffle: false,
      maxSteps: 1,
      learningRate: 1,
      lrScheduler: 'constant',
      optimizer,
    });
    await trainer.train();
    for (const [key, tensor] of lora.parameters) {
      const now = await tensor.toArray();
      const gradient = before.get(key)!.map((x, i) => x - now[i]!);
      expect(relative(gradient, wanted.get(`grad.${key}`)!.data), key).toBeLessThan(1e-4);
    }
    trainer.dispose();
    lora.dispose();
    model.dispose();
  });
});
