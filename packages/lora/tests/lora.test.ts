import { keep, noGrad, scope } from '@lowrank/tensor';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Adapter,
  type Candidate,
  LoraModel,
  layerOf,
  matchTargets,
  rankAndScale,
  resolveConfig,
} from '../src/index.ts';
import { loadFamily, useDevice } from './support.ts';

const at = useDevice();

const candidates: Candidate[] = [
  { path: 'model.embed_tokens', kind: 'embedding' },
  ...[0, 1, 2].flatMap((i) =>
    ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.down_proj'].map(
      (n): Candidate => ({ path: `model.layers.${i}.${n}`, kind: 'linear' }),
    ),
  ),
  { path: 'lm_head', kind: 'head' },
];
const config = (o: object) => resolveConfig({ r: 4, loraAlpha: 8, targetModules: ['q_proj'], ...o });
const paths = (o: object) => matchTargets(candidates, config(o));

describe('targets', () => {
  test('names are whole last parts; longer suffixes and paths work too', () => {
    expect(paths({})).toEqual([0, 1, 2].map((i) => `model.layers.${i}.self_attn.q_proj`));
    expect(paths({ targetModules: ['1.mlp.down_proj', 'model.embed_tokens'] })).toEqual([
      'model.embed_tokens',
      'model.layers.1.mlp.down_proj',
    ]);
    expect(() => paths({ targetModules: ['proj'] })).toThrow('targetModules matches nothing: "proj". Nearest: q_proj');
  });

  test('a string is a regular expression over the whole path; all-linear leaves the head out', () => {
    expect(paths({ targetModules: '.*\\.0\\..*(q|v)_proj' })).toEqual([
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
    ]);
    expect(paths({ targetModules: 'all-linear' }).length).toBe(9);
    expect(() => paths({ targetModules: 'q_proj' })).toThrow('matches nothing');
    // as Python writes them
    const q0 = ['model.layers.0.self_attn.q_proj'];
    expect(paths({ targetModules: '(?i)MODEL.*\\.0\\..*Q_PROJ' })).toEqual(q0);
    expect(paths({ targetModules: '\\A.*\\.(?P<layer>0)\\..*q_proj\\Z' })).toEqual(q0);
    expect(() => paths({ targetModules: '(' })).toThrow('is not a regular expression');
  });

  test('exclusions, layers, whole modules', () => {
    expect(paths({ targetModules: 'all-linear', excludeModules: ['q_proj', 'v_proj'] }).length).toBe(3);
    expect(paths({ layersToTransform: [2] })).toEqual(['model.layers.2.self_attn.q_proj']);
    expect(() => paths({ layersToTransform: [7] })).toThrow(
      'layersToTransform names a layer that is not there: 7. Layers: 0, 1, 2',
    );
    expect(() => paths({ excludeModules: ['q_proj'] })).toThrow('every target is excluded');
    expect(layerOf('model.layers.12.mlp.experts.3.up')).toBe(12);
    expect(layerOf('a.blocks.5.x.layers.7.y', 'layers')).toBe(7);
  });

  test('one bad name among good ones is an error, as is a pattern that hits nothing', () => {
    expect(() => paths({ targetModules: ['q_proj', 'v_porj'] })).toThrow('"v_porj". Nearest: v_proj');
    expect(() => paths({ rankPattern: { k_proj: 2 } })).toThrow(
      'rankPattern matches no target: "k_proj". Nearest targets: q_proj',
    );
  });

  test('patterns set rank and scale; the first that matches counts', () => {
    const c = config({
      targetModules: 'all-linear',
      rankPattern: { 'layers.0.self_attn.q_proj': 16, q_proj: 2 },
      alphaPattern: { down_proj: 32 },
      useRslora: false,
    });
    expect(rankAndScale(c, 'model.layers.0.self_attn.q_proj')).toEqual({ r: 16, alpha: 8, scale: 0.5 });
    expect(rankAndScale(c, 'model.layers.1.self_attn.q_proj')).toEqual({ r: 2, alpha: 8, scale: 4 });
    expect(rankAndScale(c, 'model.layers.1.mlp.down_proj')).toEqual({ r: 4, alpha: 32, scale: 8 });
    expect(rankAndScale({ ...c, useRslora: true }, 'model.layers.1.mlp.down_proj').scale).toBe(16);
  });

  test('layersToTransform spares whole paths, and takes several patterns, as PEFT has it', () => {
    expect(paths({ targetModules: ['q_proj', 'lm_head'], layersToTransform: [1] })).toEqual([
      'model.layers.1.self_attn.q_proj',
      'lm_head',
    ]);
    expect(paths({ layersToTransform: [0], layersPattern: ['blocks', 'layers'] })).toEqual([
      'model.layers.0.self_attn.q_proj',
    ]);
    expect(layerOf('a.blocks.5.x.layers.7.y', ['layers', 'blocks'])).toBe(7);
    expect(() => paths({ layersPattern: 'layers' })).toThrow('layersPattern needs layersToTransform');
  });

  test('modules trained whole take everything in them out of the targets', () => {
    expect(paths({ targetModules: 'all-linear', modulesToSave: ['layers.0', '1.mlp'] })).toEqual([
      'model.layers.1.self_attn.q_proj',
      'model.layers.1.self_attn.v_proj',
      'model.layers.2.self_attn.q_proj',
      'model.layers.2.self_attn.v_proj',
      'model.layers.2.mlp.down_proj',
    ]);
  });

  test('a name matches exactly the paths that end in it at a dot', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('q_proj', 'v_proj', 'down_proj', 'self_attn.q_proj', '1.mlp.down_proj', 'lm_head'),
        (name) => {
          const found = paths({ targetModules: [name] });
          for (const { path } of candidates)
            expect(found.includes(path)).toBe(path === name || path.endsWith(`.${name}`));
        },
      ),
    );
  });
});

describe('configurations that cannot be meant', () => {
  test.each([
    [{ r: 0 }, 'a rank must be a positive integer: r: 0'],
    [{ r: 2.5 }, 'a rank must be a positive integer'],
    [{ loraAlpha: -1 }, 'alpha must be positive: loraAlpha: -1'],
    [{ loraDropout: 1 }, 'loraDropout must be in [0, 1)'],
    [{ bias: 'some' }, 'bias must be none, all or lora_only'],
    [{ initLoraWeights: 'pissa' }, 'unknown initLoraWeights: pissa'],
    [{ targetModules: [] }, 'targetModules is needed'],
    [{ lora_alpha: 16 }, 'lora: unknown option: lora_alpha. Did you mean loraAlpha?'],
  ])('%o', (o, message) => {
    expect(() => config(o)).toThrow(message);
  });
});

describe('adapters on one base', () => {
  async function setUp() {
    const { device } = at;
    const model = await loadFamily(device, 'families/llama');
    const lora = new LoraModel(model, device);
    const ids = keep(device.tensor([[1, 5, 9, 2]], { dtype: 'i32' }));
    const logits = async () => {
      using y = noGrad(() => scope(() => model.forward(ids)));
      return Array.from((await y.toArray()) as Float32Array);
    };
    const close = () => {
      ids.dispose();
      lora.dispose();
      model.dispose();
    };
    return { model, lora, logits, close };
  }

  test('a new one changes nothing, a trained one does, and it can be taken off', async () => {
    const { lora, logits, close } = await setUp();
    const base = await logits();
    lora.addAdapter('fresh', { targetModules: ['q_proj', 'v_proj'] });
    expect(await logits()).toEqual(base);
    lora.addAdapter('trained', { targetModules: 'all-linear', initLoraWeights: false }, { seed: 3 });
    lora.setAdapter('trained');
    expect(await logits()).not.toEqual(base);
    expect(await lora.withoutAdapters(logits)).toEqual(base);
    lora.disableAdapters();
    expect(await logits()).toEqual(base);
    lora.enableAdapters();
    lora.deleteAdapter('trained');
    expect(await logits()).toEqual(base);
    expect(() => lora.setAdapter('trained')).toThrow('no such adapter: trained. There: fresh');
    expect(() => lora.addAdapter('fresh', { targetModules: ['q_proj'] })).toThrow(
      'an adapter of this name is there already',
    );
    close();
  });

  test('several active ones add up', async () => {
    const { lora, logits, close } = await setUp();
    const base = await logits();
    // on the head alone the logits are linear in the adapters
    lora.addAdapter('a', { targetModules: ['lm_head'], initLoraWeights: false }, { seed: 1 });
    lora.addAdapter('b', { targetModules: ['lm_head'], initLoraWeights: false, r: 2, loraAlpha: 6 }, { seed: 2 });
    lora.setAdapter('a');
    const a = await logits();
    lora.setAdapter('b');
    const b = await logits();
    lora.setAdapter(['a', 'b']);
    const both = await logits();
    both.forEach((v, i) => void expect(Math.abs(v - (a[i]! + b[i]! - base[i]!))).toBeLessThan(1e-4));
    close();
  });

  test('only what is set trains, and the same seed gives the same start', async () => {
    const { model, lora, close } = await setUp();
    const first = lora.addAdapter('a', { r: 4, targetModules: ['q_proj'] }, { seed: 5 });
    const second = lora.addAdapter('b', { r: 4, targetModules: ['q_proj', 'v_proj'] }, { seed: 5 });
    const path = 'model.layers.1.self_attn.q_proj';
    expect(await first.pairs.get(path)!.a.toArray()).toEqual(await second.pairs.get(path)!.a.toArray());
    expect([...lora.trainableParameters().keys()]).toEqual(
      [0, 1].flatMap((i) => ['A', 'B'].map((x) => `model.layers.${i}.self_attn.q_proj.lora_${x}`)),
    );
    expect([...model.namedParameters()].filter(([, t]) => t.requiresGrad)).toEqual([]);
    expect(second.pairs.get(path)!.a.requiresGrad).toBe(false);
    const bound = 1 / Math.sqrt(64);
    const a = await first.pairs.get(path)!.a.toArray();
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(bound);
    expect(Math.max(...a.map(Math.abs))).toBeGreaterThan(0.8 * bound);
    close();
  });

  test('an adapter named twice counts once', async () => {
    const { lora, logits, close } = await setUp();
    lora.addAdapter('a', { targetModules: ['q_proj'], initLoraWeights: false });
    const once = await logits();
    lora.setAdapter(['a', 'a']);
    expect(await logits()).toEqual(once);
    close();
  });

  test('gaussian and random starts, of linear layers and of embeddings', async () => {
    const { lora, close } = await setUp();
    const start = async (initLoraWeights: 'gaussian' | false) => {
      const name = `of ${initLoraWeights}`;
      const targetModules = ['q_proj', 'embed_tokens'];
      const { pairs } = lora.addAdapter(name, {
        r: 16,
        rankPattern: { '0.*q_proj': 4 },
        targetModules,
        initLoraWeights,
      });
      const spread = async (path: string) => {
        const { a, b } = pairs.get(path)!;
        const rms = async (t: typeof a) =>
          Math.sqrt(Array.from(await t.toArray()).reduce((sum, x) => sum + x * x, 0) / t.size);
        return [await rms(a), await rms(b)];
      };
      return [await spread('model.layers.0.self_attn.q_proj'), await spread('model.embed_tokens')].flat();
    };
    const near = (got: number[], want: number[]) =>
      got.forEach((x, i) => void expect(Math.abs(x - want[i]!)).toBeLessThan(0.15 * want[i]! + 1e-9));
    near(await start('gaussian'), [1 / 4, 0, 0, 1]);
    near(await start(false), [1 / Math.sqrt(3 * 64), 1 / Math.sqrt(3 * 4), 1, 1]);
    close();
  });

  test('nothing trains while adapters are off', async () => {
    const { lora, close } = await setUp();
    lora.addAdapter('a', { targetModules: ['q_proj'] });
    lora.disableAdapters();
    expect(lora.trainableParameters().size).toBe(0);
    expect(lora.counts().trainable).toBe(0);
    close();
  });

  test('dropout needs a seed, acts in training alone, and follows the seed', async () => {
    const { lora, logits, close } = await setUp();
    const { device } = at;
    lora.addAdapter('a', { targetModules: ['q_proj', 'o_proj'], loraDropout: 0.5, initLoraWeights: false });
    const still = await logits();
    lora.training = true;
    await expect(logits()).rejects.toThrow('lora: dropout in training needs a seed. Set `lora.seed`');
    const seed = keep(device.seed(1));
    lora.seed = seed;
    const one = await logits();
    expect(one).not.toEqual(still);
    expect(await logits()).toEqual(one);
    device.write(seed, Uint32Array.of(1, 0, 1, 0));
    expect(await logits()).not.toEqual(one);
    lora.training = false;
    expect(await logits()).toEqual(still);
    seed.dispose();
    close();
  });
});

test('an adapted model is what a trainer takes: active parameters, dropout while it trains, the vocabulary', async () => {
  const { device } = at;
  const model = await loadFamily(device, 'families/llama');
  const lora = new LoraModel(model, device);
  lora.addAdapter('a', { targetModules: ['q_proj'], loraDropout: 0.5, initLoraWeights: false });
  const trainee = lora.trainable();
  expect([...trainee.parameters().keys()]).toEqual([...lora.trainableParameters().keys()]);
  expect(trainee.vocabSize).toBe(128);
  trainee.prepare(4);
  const ids = keep(device.tensor([[1, 5, 9, 2]], { dtype: 'i32' }));
  const hidden = async () => {
    using y = noGrad(() => trainee.hidden(ids, {}));
    return Array.from((await y.toArray()) as Float32Array);
  };
  const still = await hidden();
  trainee.setTraining(true);
  const seed = keep(device.seed(1));
  lora.seed = seed;
  expect(await hidden()).not.toEqual(still);
  trainee.setTraining(false);
  expect(await hidden()).toEqual(still);
  for (const x of [ids, seed, lora, model]) x.dispose();
});

describe('parameters trained whole', () => {
  /** Writes other values over an adapter's copies. */
  const change = (adapter: Adapter, value: number) => {
    for (const { tensor } of adapter.copies.values())
      at.device.write(tensor, new Float32Array(tensor.size).fill(value));
  };

  async function setUp(name: string) {
    const { device } = at;
    const model = await loadFamily(device, `families/${name}`);
    const lora = new LoraModel(model, device);
    const ids = keep(device.tensor([[1, 5, 9, 2]], { dtype: 'i32' }));
    const logits = async () => {
      using y = noGrad(() => scope(() => model.forward(ids)));
      return Array.from((await y.toArray()) as Float32Array);
    };
    const close = () => {
      for (const x of [ids, lora, model]) x.dispose();
    };
    return { model, lora, logits, close };
  }

  test('two adapters with copies of one module do not see each other’s', async () => {
    const { lora, logits, close } = await setUp('llama');
    const base = await logits();
    const options = { targetModules: ['q_proj'], modulesToSave: ['lm_head'] };
    const a = lora.addAdapter('a', options);
    change(a, 1);
    const withA = await logits();
    const b = lora.addAdapter('b', options); // while a's copy is in place
    expect(await logits()).toEqual(withA);
    lora.setAdapter('b');
    expect(await logits()).toEqual(base);
    change(b, 2);
    const withB = await logits();
    expect(withB).not.toEqual(withA);
    expect(await lora.withoutAdapters(logits)).toEqual(base);
    lora.setAdapter('a');
    expect(await logits()).toEqual(withA);
    lora.deleteAdapter('a');
    expect(await logits()).toEqual(base);
    lora.setAdapter('b');
    expect(await logits()).toEqual(withB);
    expect(() => lora.setAdapter(['b', 'a'])).toThrow('no such adapter: a');
    close();
  });

  test('a module’s bias is part of it, and comes once where biases train too', async () => {
    const { lora, close } = await setUp('qwen2');
    const { copies } = lora.addAdapter('a', { targetModules: ['o_proj'], modulesToSave: ['q_proj'], bias: 'all' });
    const paths = [...copies.keys()].filter((p) => p.startsWith('model.layers.0'));
    expect(paths).toEqual([
      'model.layers.0.self_attn.q_proj.weight',
      'model.layers.0.self_attn.q_proj.bias',
      'model.layers.0.self_attn.k_proj.bias',
      'model.layers.0.self_attn.v_proj.bias',
    ]);
    close();
  });

  test('a bias that nothing has is an error, but not in an adapter that PEFT wrote', async () => {
    const { lora, close } = await setUp('qwen2'); // biases on q, k and v alone
    const add = (targetModules: string[], lenient = false) =>
      lora.addAdapter('a', { targetModules, bias: 'lora_only' }, { lenient });
    expect(() => add(['o_proj'])).toThrow(
      'lora: bias finds none to train: lora_only, and no target of the model has a bias. Leave it out',
    );
    expect(lora.adapters.size).toBe(0);
    expect(add(['o_proj'], true).copies.size).toBe(0);
    close();
  });

  test('names match the ends of paths as in PEFT, and modules are taken with all that is in them', async () => {
    const { lora, close } = await setUp('llama');
    const of = (name: string, modulesToSave: string[]) => [
      ...lora.addAdapter(name, { targetModules: ['q_proj'], modulesToSave }).copies.keys(),
    ];
    expect(of('a', ['norm'])).toEqual([
      'model.layers.0.input_layernorm.weight',
      'model.layers.0.post_attention_layernorm.weight',
      'model.layers.1.input_layernorm.weight',
      'model.layers.1.post_attention_layernorm.weight',
      'model.norm.weight',
    ]);
    expect(of('b', ['1.mlp'])).toEqual(['gate', 'up', 'down'].map((p) => `model.layers.1.mlp.${p}_proj.weight`));
    close();
  });

  test('numbers are counted as PEFT counts them: copies beside what they stand in for, tied tables and biases once', async () => {
    // totals are those of PEFT 0.21.2
    for (const [family, options, want] of [
      ['smollm2', { targetModules: ['q_proj'], modulesToSave: ['lm_head'] }, [9216, 79168]],
      ['smollm2', { targetModules: ['q_proj'], modulesToSave: ['embed_tokens'] }, [9216, 79168]],
      ['qwen2', { targetModules: ['q_proj', 'o_proj'], bias: 'all' }, [2304, 80448]],
      ['qwen2', { targetModules: ['o_proj'], modulesToSave: ['q_proj'] }, [9344, 87744]],
      ['llama', { targetModules: ['o_proj'], modulesToSave: ['mlp'] }, [37888, 116032]],
    ] as const) {
      const { lora, close } = await setUp(family);
      lora.addAdapter('a', { r: 4, ...options });
      const { trainable, total } = lora.counts();
      expect([trainable, total], JSON.stringify(options)).toEqual(want);
      close();
    }
  });

  test('an adapter that cannot be made leaves nothing', async () => {
    const { lora, logits, close } = await setUp('qwen2');
    const base = await logits();
    const { live } = at.device.memory();
    const attempt = (modulesToSave: string[]) => () =>
      lora.addAdapter('a', { targetModules: ['q_proj', 'v_proj'], modulesToSave, bias: 'all' });
    expect(attempt(['lm_head', 'lm_haed'])).toThrow('modulesToSave matches nothing: lm_haed. Nearest: lm_head');
    expect(attempt(['proj'])).toThrow('a module is a target and in modulesToSave: model.layers.0.self_attn.q_proj');
    expect(lora.adapters.size).toBe(0);
    expect(at.device.memory().live).toBe(live);
    expect(await logits()).toEqual(base);
    close();
  });
});
