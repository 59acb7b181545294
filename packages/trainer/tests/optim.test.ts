import { Device, keep, type Tensor } from '@lowrank/tensor';
import { referenceBackend } from '@lowrank/testkit';
import { describe, expect, test } from 'vitest';
import {
  AdamW,
  type AdamWOptions,
  Parameters,
  type Schedule,
  Sgd,
  type SgdOptions,
  scheduleFactor,
  selectParameters,
} from '../src/index.ts';
import { clipScale, gradientNorm } from '../src/optim/clip.ts';
import { learningRateAt } from '../src/optim/schedule.ts';
import { tinyModel, withDevice } from './support.ts';

const shapes: Record<string, readonly number[]> = {
  'a.weight': [3, 5],
  'a.bias': [5],
  'norm.weight': [7],
  'b.weight': [2, 2],
  scalar: [],
};
const size = (shape: readonly number[]) => shape.reduce((p, d) => p * d, 1);
const wave = (n: number, phase: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(1.7 * i + phase));

function leaves(device: Device, dtype: 'f32' | 'bf16' = 'f32'): Map<string, Tensor> {
  return new Map(
    Object.entries(shapes).map(([name, shape], i) => [
      name,
      device.tensor(wave(size(shape), i), { shape, dtype }).requireGrad(),
    ]),
  );
}

/** Gradients of a step, the same for every layout. */
async function giveGradients(parameters: Parameters, step: number): Promise<void> {
  let i = 0;
  for (const t of parameters.named.values()) t.device.write(t.grad!, wave(t.size, 10 * step + i++));
}

/** PyTorch's AdamW in f64. */
function adamwReference(
  steps: number,
  lr: number,
  weightDecay: (name: string) => number,
  o: { beta1: number; beta2: number; eps: number },
) {
  const out = new Map<string, Float64Array>();
  Object.entries(shapes).forEach(([name, shape], i) => {
    const n = size(shape);
    const p = Float64Array.from(wave(n, i));
    const m = new Float64Array(n);
    const v = new Float64Array(n);
    for (let t = 1; t <= steps; t++) {
      const g = wave(n, 10 * t + i);
      for (let k = 0; k < n; k++) {
        p[k]! *= 1 - lr * weightDecay(name);
        m[k] = o.beta1 * m[k]! + (1 - o.beta1) * g[k]!;
        v[k] = o.beta2 * v[k]! + (1 - o.beta2) * g[k]! ** 2;
        p[k]! -= (lr * (m[k]! / (1 - o.beta1 ** t))) / (Math.sqrt(v[k]! / (1 - o.beta2 ** t)) + o.eps);
      }
    }
    out.set(name, p);
  });
  return out;
}

async function expectClose(
  named: ReadonlyMap<string, Tensor>,
  wanted: ReadonlyMap<string, Float64Array>,
  tolerance: number,
) {
  for (const [name, t] of named) {
    const got = await t.toArray();
    for (const [i, w] of wanted.get(name)!.entries()) expect(Math.abs(got[i]! - w), name).toBeLessThan(tolerance);
  }
}

function dispose(parts: Iterable<Disposable>): void {
  for (const p of parts) p[Symbol.dispose]();
}

describe.each([
  { layout: 'gathered', flatten: 'auto', fused: 'auto' },
  { layout: 'each alone', flatten: 'off', fused: 'auto' },
  { layout: 'decomposed', flatten: 'auto', fused: 'off' },
] as const)('optimizers, $layout', ({ flatten, fused }) => {
  const options: AdamWOptions = { beta1: 0.8, beta2: 0.95, eps: 1e-6, weightDecay: 0.1 };

  test('AdamW steps as PyTorch does; vectors do not decay', async () => {
    await withDevice(
      async (device) => {
        const named = leaves(device);
        const parameters = new Parameters(device, named, { flatten });
        expect(parameters.flatGrad !== undefined).toBe(flatten === 'auto');
        const adamw = new AdamW(parameters, options);
        for (let t = 1; t <= 7; t++) {
          await giveGradients(parameters, t);
          adamw.prepare(t, 0.03);
          adamw.apply();
        }
        const wanted = adamwReference(7, 0.03, (name) => (shapes[name]!.length < 2 ? 0 : 0.1), options as never);
        await expectClose(named, wanted, 3e-6);
        expect([...adamw.state()].map((e) => [e.name, e.shape])).toContainEqual(['adamw.m.a.weight', [3, 5]]);
        dispose([adamw, parameters, ...named.values()]);
      },
      { fused },
    );
  });

  test('groups have their own rates and decays', async () => {
    await withDevice(
      async (device) => {
        const named = leaves(device);
        const groups = [
          { match: /^b\./, learningRateScale: 0.5, weightDecay: 0 },
          { match: 'bias', weightDecay: 0.2 },
        ];
        const parameters = new Parameters(device, named, { flatten, groups, decay: 'all' });
        const adamw = new AdamW(parameters, options);
        await giveGradients(parameters, 1);
        adamw.prepare(1, 0.03);
        adamw.apply();
        const b = adamwReference(1, 0.015, () => 0, options as never).get('b.weight')!;
        const bias = adamwReference(1, 0.03, () => 0.2, options as never).get('a.bias')!;
        const wanted = adamwReference(1, 0.03, () => 0.1, options as never)
          .set('b.weight', b)
          .set('a.bias', bias);
        await expectClose(named, wanted, 1e-6);
        dispose([adamw, parameters, ...named.values()]);
      },
      { fused },
    );
  });

  test.each<SgdOptions>([
    {},
    { weightDecay: 0.1 },
    { momentum: 0.9 },
    { momentum: 0.9, nesterov: true, weightDecay: 0.1 },
  ])('SGD steps as PyTorch does: %j', async (sgdOptions) => {
    await withDevice(
      async (device) => {
        const named = leaves(device);
        const parameters = new Parameters(device, named, { flatten, decay: 'all' });
        const sgd = new Sgd(parameters, sgdOptions);
        const { momentum = 0, nesterov = false, weightDecay = 0 } = sgdOptions;
        const wanted = new Map<string, Float64Array>();
        const steps = 5;
        for (let t = 1; t <= steps; t++) {
          await giveGradients(parameters, t);
          sgd.prepare(t, 0.1);
          sgd.apply();
        }
        for (const [i, [name, shape]] of Object.entries(shapes).entries()) {
          const p = Float64Array.from(wave(size(shape), i));
          const b = new Float64Array(p.length);
          for (let t = 1; t <= steps; t++)
            wave(p.length, 10 * t + i).forEach((raw, k) => {
              const g = raw + weightDecay * p[k]!;
              b[k] = momentum * b[k]! + g;
              p[k]! -= 0.1 * (nesterov ? g + momentum * b[k]! : b[k]!);
            });
          wanted.set(name, p);
        }
        await expectClose(named, wanted, 3e-6);
        dispose([sgd, parameters, ...named.values()]);
      },
      { fused },
    );
  });

  test('clips to the global norm as PyTorch does', async () => {
    await withDevice(
      async (device) => {
        const named = leaves(device);
        const parameters = new Parameters(device, named, { flatten });
        await giveGradients(parameters, 1);
        let squares = 0;
        for (const [i, shape] of Object.values(shapes).entries())
          for (const g of wave(size(shape), 10 + i)) squares += g * g;
        const norm = keep(gradientNorm(parameters));
        expect(await norm.item()).toBeCloseTo(Math.sqrt(squares), 5);
        const scales = [0.5, 1e6].map((max) => keep(clipScale(norm, max)));
        expect(await scales[0]!.item()).toBeCloseTo(0.5 / (Math.sqrt(squares) + 1e-6), 6);
        expect(await scales[1]!.item()).toBe(1);
        parameters.zeroGrad();
        const zero = keep(gradientNorm(parameters));
        expect(await zero.item()).toBe(0);
        dispose([norm, zero, ...scales, parameters, ...named.values()]);
      },
      { fused },
    );
  });
});

test('gathering moves parameters and keeps what they are; views go with the last of them', async () => {
  await withDevice(async (device) => {
    const named = leaves(device);
    const before = await Promise.all([...named.values()].map((t) => t.toArray()));
    const live = device.memory().live;
    const parameters = new Parameters(device, named);
    const after = await Promise.all([...named.values()].map((t) => t.toArray()));
    expect(after).toEqual(before);
    expect(new Set([...named.values()].map((t) => t.storage)).size).toBe(1);
    expect([...named.values()].every((t) => t.requiresGrad && t.grad && t.grad.shape.join() === t.shape.join())).toBe(
      true,
    );
    parameters.dispose();
    expect([...named.values()].every((t) => t.grad === undefined)).toBe(true);
    expect(device.memory().live).toBeLessThanOrEqual(live + 5 * 64);
    expect(await Promise.all([...named.values()].map((t) => t.toArray()))).toEqual(before);
    dispose(named.values());
  });
});

test('halves keep f32 masters, so that small steps add up', async () => {
  await withDevice(async (device) => {
    const moved = async (masterWeights: boolean) => {
      const p = device.tensor([1], { dtype: 'bf16' }).requireGrad();
      const parameters = new Parameters(device, [['p', p]]);
      const adamw = new AdamW(parameters, { masterWeights });
      for (let t = 1; t <= 100; t++) {
        device.write(p.grad!, Float32Array.of(1));
        adamw.prepare(t, 1e-4);
        adamw.apply();
      }
      const value = (await p.toArray())[0]!;
      const names = [...adamw.state()].map((e) => e.name);
      dispose([adamw, parameters, p]);
      return { value, names };
    };
    const withMaster = await moved(true);
    expect(withMaster.value).toBe(0.98828125); // 0.99 in bf16
    expect(withMaster.names).toContain('adamw.master.p');
    expect((await moved(false)).value).toBe(1);
  });
});

test('the decomposition does what the fused op does', async () => {
  const run = async (fused: 'auto' | 'off') => {
    const device = new Device(referenceBackend(), { fused });
    const named = leaves(device);
    const parameters = new Parameters(device, named);
    const adamw = new AdamW(parameters, { weightDecay: 0.1 });
    const scale = device.tensor([0.37]);
    for (let t = 1; t <= 3; t++) {
      await giveGradients(parameters, t);
      adamw.prepare(t, 0.01);
      adamw.apply(scale);
    }
    const values = await Promise.all([...named.values()].map((t) => t.toArray()));
    dispose([adamw, parameters, scale, ...named.values()]);
    expect(device.memory().live).toBe(0);
    await device.close();
    return values;
  };
  const [fused, decomposed] = [await run('auto'), await run('off')];
  for (const [i, values] of fused!.entries())
    for (const [k, x] of values.entries()) expect(Math.abs(x - decomposed![i]![k]!)).toBeLessThan(1e-6);
});

test('schedules are transformers’', () => {
  const at = (kind: Schedule, steps: number[], total = 100, warmup = 10) =>
    steps.map((s) => scheduleFactor(kind, s, total, warmup));
  expect(at('constant', [0, 5, 10, 99])).toEqual([0, 0.5, 1, 1]);
  expect(at('linear', [0, 5, 10, 55, 100, 200])).toEqual([0, 0.5, 1, 0.5, 0, 0]);
  const cosine = at('cosine', [0, 5, 10, 55, 100]);
  for (const [i, w] of [0, 0.5, 1, 0.5, 0].entries()) expect(cosine[i]).toBeCloseTo(w, 12);
  expect(at('linear', [0, 50], 100, 0)).toEqual([1, 0.5]);
  expect(at((s, n) => s / n, [5, 50])).toEqual([0.5, 0.5]);
  expect(() => scheduleFactor('square' as never, 1, 2, 0)).toThrow(/unknown schedule: square/);
  expect(learningRateAt({ learningRate: 2, lrScheduler: 'constant', warmupSteps: 0.1 }, 5, 100)).toBe(1);
});
test('what cannot be trained is refused, by name', async () => {
  await withDevice(async (device) => {
    const named = leaves(device);
    const make = (list: [string, Tensor][], options = {}) => new Parameters(device, list, options);
    const a = named.get('a.weight')!;
    const frozen = device.zeros([2]);
    const ids = device.zeros([2], 'i32').requireGrad();
    expect(() => make([])).toThrow(/nothing to train/);
    expect(() => make([['x', frozen]])).toThrow(/not trainable: x/);
    expect(() => make([['x', ids]])).toThrow(/must hold floats: x: i32/);
    expect(() =>
      make([
        ['x', a],
        ['y', a],
      ]),
    ).toThrow(/under two names: x, y/);
    expect(() => make([...named], { groups: [{ match: 'biass' }] })).toThrow(
      /matches nothing: biass\. Nearest names: a\.bias/,
    );
    const parameters = make([...named]);
    expect(() => make([...named])).toThrow(/has a gradient already: a\.weight/);
    expect(() => new AdamW(parameters, { beta1: 1 })).toThrow(/betas/);
    expect(() => new Sgd(parameters, { nesterov: true })).toThrow(/Nesterov/);
    dispose([parameters, frozen, ids, ...named.values()]);
  });
});

test('parameters of a model are chosen by patterns', async () => {
  await withDevice(async (device) => {
    const model = await tinyModel(device);
    expect(selectParameters(model).size).toBe([...model.namedParameters()].length);
    const some = selectParameters(model, [/layers\.1\..*norm/, 'lm_head']);
    expect([...some.keys()]).toEqual([
      'model.layers.1.input_layernorm.weight',
      'model.layers.1.post_attention_layernorm.weight',
      'lm_head.weight',
    ]);
    expect([...model.namedParameters()].filter(([, t]) => t.requiresGrad).map(([n]) => n)).toEqual([...some.keys()]);
    expect(() => selectParameters(model, ['lm_haed'])).toThrow(/finds no parameter.*Nearest names: lm_head\.weight/);
    model.dispose();
  });
});
