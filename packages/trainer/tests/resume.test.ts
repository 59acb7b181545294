import { createHash } from 'node:crypto';
import type { Device } from '@lowrank/tensor';
import { describe, expect, test } from 'vitest';
import { type CheckpointStore, MemoryCheckpoints, MetricsList, Trainer, type TrainerOptions } from '../src/index.ts';
import { adapterFile, attach, randomData, readTensors, tinyModel, trainable, withDevice } from './support.ts';

const data = randomData(13);
const evalData = randomData(4, { seed: 3 });

/** 10 steps over three epochs of uneven steps, with dropout, evaluation and everything else on. */
const settings = {
  batchSize: 2,
  gradientAccumulationSteps: 2,
  maxSteps: 10,
  learningRate: 0.01,
  lrScheduler: 'cosine',
  warmupSteps: 2,
  weightDecay: 0.01,
  maxGradNorm: 1,
  evalSteps: 3,
  seed: 7,
} as const;

/** A new process, as it were: a fresh model and a fresh trainer on the same checkpoints. */
async function session<T>(
  device: Device,
  options: Partial<TrainerOptions> & { checkpoints: CheckpointStore },
  use: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  const base = await tinyModel(device);
  const lora = attach(base, device, await readTensors(adapterFile), 2);
  const seed = device.seed(0);
  const model = trainable(base, lora.parameters, (on) => {
    for (const [site, a] of lora.adapters.entries()) a.drop = { p: on ? 0.2 : 0, seed, site };
  });
  const trainer = new Trainer({ device, model, data, evalData, dropoutSeed: seed, ...settings, ...options });
  try {
    return await use(trainer);
  } finally {
    trainer.dispose();
    seed.dispose();
    lora.dispose();
    base.dispose();
  }
}

/** A checkpoint, to be compared. */
async function contents(store: CheckpointStore, step: number) {
  const saved = await store.load(step);
  const tensors: Record<string, string> = {};
  for (const [name, t] of saved!.tensors)
    tensors[name] = `${t.dtype} [${t.shape}] ${createHash('sha256')
      .update(await t.read())
      .digest('hex')}`;
  return { state: JSON.stringify(saved!.state), tensors };
}

async function straight(device: Device, extra: Partial<TrainerOptions>) {
  const checkpoints = new MemoryCheckpoints();
  await session(device, { checkpoints, ...extra }, (t) => t.train());
  return contents(checkpoints, settings.maxSteps);
}

describe.each([
  { name: 'shuffled', extra: {} },
  { name: 'packed', extra: { packing: true, rowLength: 32, batchSize: 1 } },
  {
    name: 'grouped by length, plain descent',
    extra: { groupByLength: true, optimizer: { kind: 'sgd', momentum: 0.9 } },
  },
  { name: 'eager, each alone', extra: { record: 'off', flatten: 'off' } },
] as const)('a run stopped and resumed ends with the bytes of one never stopped: $name', ({ extra }) => {
  test('at every step', async () => {
    await withDevice(async (device) => {
      const wanted = await straight(device, extra);
      expect(Object.keys(wanted.tensors).length).toBeGreaterThan(40);
      for (let stop = 1; stop < settings.maxSteps; stop += Object.keys(extra).length ? 3 : 1) {
        const checkpoints = new MemoryCheckpoints({ keep: 2 });
        const abort = new AbortController();
        const onStep = ({ step }: { step: number }) => (step === stop ? abort.abort() : undefined);
        const first = await session(device, { checkpoints, signal: abort.signal, onStep, ...extra }, (t) => t.train());
        expect(first).toMatchObject({ stopped: 'aborted', step: stop });
        await session(device, { checkpoints, ...extra }, async (trainer) => {
          expect(await trainer.resume()).toBe(stop);
          expect((await trainer.train()).stopped).toBe('finished');
        });
        expect(await contents(checkpoints, settings.maxSteps), `stopped after step ${stop}`).toEqual(wanted);
      }
    });
  });

  test('many times over, cut off at any moment after a save', async () => {
    await withDevice(async (device) => {
      const wanted = await straight(device, extra);
      const checkpoints = new MemoryCheckpoints({ keep: 2 });
      // each session dies some steps after its last save, once in the middle of accumulation
      for (const dies of [2, 3, 5, 8]) {
        const onStep = ({ step }: { step: number }) => {
          if (step === dies) throw new Error('power cut');
        };
        await session(device, { checkpoints, saveSteps: 2, onStep, ...extra }, async (trainer) => {
          await trainer.resume();
          await expect(trainer.train()).rejects.toThrow('power cut');
        });
      }
      await session(device, { checkpoints, saveSteps: 2, ...extra }, async (trainer) => {
        expect(await trainer.resume()).toBe(6);
        await trainer.train();
      });
      expect(await contents(checkpoints, settings.maxSteps)).toEqual(wanted);
    });
  });
});

test('a stop in the middle of accumulation leaves the step undone', async () => {
  await withDevice(async (device) => {
    const wanted = await straight(device, {});
    const checkpoints = new MemoryCheckpoints();
    // aborted when the second batch of step 5 comes
    let looks = 0;
    const signal = {
      get aborted() {
        return ++looks > 8;
      },
    } as AbortSignal;
    const first = await session(device, { checkpoints, signal }, (t) => t.train());
    expect(first).toMatchObject({ stopped: 'aborted', step: 4 });
    await session(device, { checkpoints }, async (trainer) => {
      expect(await trainer.resume()).toBe(4);
      await trainer.train();
    });
    expect(await contents(checkpoints, settings.maxSteps)).toEqual(wanted);
  });
});

test('early stopping counts on; a finished run is not run again', async () => {
  await withDevice(async (device) => {
    const early = {
      earlyStopping: { patience: 2 },
      learningRate: 0.3,
      lrScheduler: 'constant',
      warmupSteps: 0,
      maxSteps: 40,
      evalSteps: 2,
    } as const;
    const whole = new MemoryCheckpoints();
    const result = await session(device, { ...early, checkpoints: whole }, (t) => t.train());
    expect(result.stopped).toBe('early');
    const checkpoints = new MemoryCheckpoints();
    const abort = new AbortController();
    const stop = result.step - 1;
    const onStep = ({ step }: { step: number }) => (step === stop ? abort.abort() : undefined);
    await session(device, { ...early, checkpoints, signal: abort.signal, onStep }, (t) => t.train());
    for (let again = 0; again < 2; again++)
      await session(device, { ...early, checkpoints }, async (trainer) => {
        await trainer.resume();
        expect(await trainer.train()).toMatchObject({ stopped: 'early', step: result.step, loss: result.loss });
      });
    expect(await contents(checkpoints, result.step)).toEqual(await contents(whole, result.step));
  });
});

test('a new run does not write among the checkpoints of another', async () => {
  await withDevice(async (device) => {
    const checkpoints = new MemoryCheckpoints();
    await session(device, { checkpoints, maxSteps: 1 }, (t) => t.train());
    const again = session(device, { checkpoints, maxSteps: 1 }, (t) => t.train());
    await expect(again).rejects.toThrow(/there is a run already: memory, step 1\. Resume it/);
  });
});

test('metrics of a run that was cut off are dropped', async () => {
  await withDevice(async (device) => {
    const metrics = new MetricsList();
    const checkpoints = new MemoryCheckpoints();
    const onStep = ({ step }: { step: number }) => {
      if (step === 6) throw new Error('power cut');
    };
    const run = session(device, { checkpoints, metrics, saveSteps: 4, onStep }, (t) => t.train());
    await expect(run).rejects.toThrow('power cut');
    expect(metrics.metrics.at(-1)!.step).toBe(5);
    await session(device, { checkpoints, metrics, saveSteps: 4 }, async (trainer) => {
      await trainer.resume();
      await trainer.train();
    });
    expect(metrics.metrics.filter((m) => m.event === 'step').map((m) => m.step)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ]);
  });
});

test('what does not fit is refused, and nothing is touched', async () => {
  await withDevice(async (device) => {
    const checkpoints = new MemoryCheckpoints();
    const fails = (options: Partial<TrainerOptions>, store: CheckpointStore = checkpoints) =>
      session(device, { checkpoints: store, ...options }, async (trainer) => {
        const before = await [...trainer.parameters.named.values()][0]!.bytes();
        const error = await trainer.resume().then(
          () => '',
          (e: Error) => e.message,
        );
        expect(await [...trainer.parameters.named.values()][0]!.bytes()).toEqual(before);
        expect(trainer.state.step).toBe(0);
        return error;
      });
    await session(device, { checkpoints }, async (t) => expect(await t.resume()).toBeUndefined());
    await session(device, { checkpoints, maxSteps: 1 }, (t) => t.train());
    const scaled = new MemoryCheckpoints();
    await session(device, { checkpoints: scaled, maxSteps: 1, identity: { loraAlpha: 16 } }, (t) => t.train());
    expect(await fails({ identity: { loraAlpha: 64 } }, scaled)).toMatch(/: loraAlpha 16 then, 64 now/);
    expect(await fails({}, scaled)).toMatch(/: loraAlpha 16 then, not said now/);
    expect(await fails({ seed: 8 })).toMatch(
      /resume: the run was set up otherwise: memory, step 1: seed 7 then, 8 now/,
    );
    expect(await fails({ data: randomData(13, { seed: 5 }) })).toMatch(/data 13-\w+ then, 13-\w+ now/);
    expect(await fails({ optimizer: { kind: 'sgd' } })).toMatch(/optimizer adamw then, sgd now/);
    const changed = (change: (name: string) => string | undefined): CheckpointStore => ({
      save: (c) => checkpoints.save(c),
      load: async () => {
        const saved = (await checkpoints.load())!;
        const tensors = new Map(
          [...saved.tensors].flatMap(([name, t]) => (change(name) ? [[change(name)!, t] as const] : [])),
        );
        return { ...saved, tensors };
      },
    });
    const q = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight';
    expect(
      await fails(
        {},
        changed((n) => (n === `adamw.m.${q}` ? undefined : n)),
      ),
    ).toMatch(`it lacks adamw.m.${q}`);
    expect(
      await fails(
        {},
        changed((n) => n.replace('q_proj', 'x_proj')),
      ),
    ).toMatch(/it lacks parameters.*q_proj.*and 8 more; nothing here takes parameters.*x_proj/);
    const cut: CheckpointStore = {
      save: (c) => checkpoints.save(c),
      load: async () => {
        const saved = (await checkpoints.load())!;
        const tensors = new Map(
          [...saved.tensors].map(([name, t]) => [name, name === `parameters.${q}` ? { ...t, shape: [1, 2] } : t]),
        );
        return { ...saved, tensors };
      },
    };
    expect(await fails({}, cut)).toMatch(/q_proj.lora_A.weight is \[1,2\] f32, here \[8,64\] f32/);
  });
});
