import {
  check,
  type Device,
  Embedding,
  keep,
  Linear,
  LowrankError,
  type Module,
  noGrad,
  scope,
  type Tensor,
} from '@lowrank/tensor';
import { type LoraConfig, resolveConfig } from './config.ts';
import { Copies, type TrainedCopy } from './copies.ts';
import { type Counts, count } from './count.ts';
import { LoraEmbeddingLayer, LoraLinearLayer, type LoraPair, type LoraState } from './layer.ts';
import { type Candidate, matchTargets, rankAndScale } from './match.ts';
import type { Drivable, Trainee } from './trainee.ts';
import { initializers } from './variants/index.ts';

/** One adapter: its configuration and what it trains. */
export interface Adapter {
  readonly name: string;
  readonly config: LoraConfig;
  /** By module path. */
  readonly pairs: ReadonlyMap<string, LoraPair>;
  /** Whole copies (`modulesToSave`) and biases that are trained, by parameter path. */
  readonly copies: ReadonlyMap<string, TrainedCopy>;
}

/** Distance between the random numbers of neighbouring layers: initializers use `site` and `site + 1`. */
const sitesALayer = 2;

/**
 * LoRA on a model (Hu et al. 2021): adapters are attached to its linear and embedding layers, and the base is frozen. Several adapters can
 * be there; those that are set add their updates. Disposing takes all adapters off and leaves the base.
 */
export class LoraModel<M extends Module = Module> implements Disposable {
  readonly model: M;
  readonly device: Device;
  readonly #modelType: string | undefined;
  readonly #adapters = new Map<string, Adapter>();
  readonly #state: LoraState = { active: [], enabled: true, training: false, seed: undefined };
  readonly #layers = new Map<string, LoraLinearLayer | LoraEmbeddingLayer>();
  readonly #settled = new Set<string>();
  readonly #copies: Copies;

  constructor(model: M, device: Device, options: { modelType?: string } = {}) {
    this.model = model;
    this.device = device;
    this.#copies = new Copies(model, device);
    this.#modelType = options.modelType ?? (model as { config?: { modelType?: string } }).config?.modelType;
    for (const [, t] of model.namedParameters()) if (t.dtype !== 'u8') t.requireGrad(false);
  }

  /** Everything that can be adapted, in model order. A linear layer at the root is the output head. */
  candidates(): Candidate[] {
    const out: Candidate[] = [];
    for (const [path, m] of this.model.namedModules())
      if (m instanceof Linear) out.push({ path, kind: path.includes('.') ? 'linear' : 'head' });
      else if (m instanceof Embedding) out.push({ path, kind: 'embedding' });
    return out;
  }

  get adapters(): ReadonlyMap<string, Adapter> {
    return this.#adapters;
  }

  /** Names of the adapters whose updates count now. */
  get active(): readonly string[] {
    return this.#state.active;
  }

  /** Names of the adapters whose updates are in the base (`settle`). */
  get merged(): ReadonlySet<string> {
    return this.#settled;
  }

  /** Dropout applies only while this is on. */
  get training(): boolean {
    return this.#state.training;
  }

  set training(on: boolean) {
    this.#state.training = on;
  }

  /** The seed of dropout, u32 [4] (`Device.seed`); whoever drives the steps owns it and writes its step. */
  set seed(seed: Tensor | undefined) {
    this.#state.seed = seed;
  }

  /**
   * Adds an adapter with fresh weights and, as the first one, sets it. Random numbers depend on `seed` and the layer alone. `lenient` is for
   * configurations that PEFT wrote, which may name what is not there: targets, layers, patterns, biases.
   */
  addAdapter(
    name: string,
    config: Partial<LoraConfig>,
    options: { readonly seed?: number; readonly lenient?: boolean } = {},
  ): Adapter {
    check(!this.#adapters.has(name), 'lora', 'an adapter of this name is there already', name);
    check(
      /^[^./\\]+$/.test(name),
      'lora',
      'an adapter name must not be empty or hold dots and slashes',
      JSON.stringify(name),
    );
    const resolved = resolveConfig(config, this.#modelType);
    const candidates = this.candidates();
    const targets = matchTargets(candidates, resolved, options.lenient);
    this.#placeCopies([...this.#settled]);
    let copies: Map<string, TrainedCopy> | undefined;
    try {
      copies = this.#copies.make(resolved, targets, options.lenient ?? false);
      const pairs = this.#pairs(resolved, targets, candidates, options.seed ?? 0);
      for (const [path, pair] of pairs) this.#layer(path).pairs.set(name, pair);
      this.#adapters.set(name, { name, config: resolved, pairs, copies });
    } catch (error) {
      for (const { tensor } of copies?.values() ?? []) tensor.dispose();
      throw error;
    } finally {
      this.#apply();
    }
    if (this.#adapters.size === 1) this.setAdapter(name);
    return this.#adapter(name);
  }

  /** Fresh pairs, by path. None is left where one cannot be made. */
  #pairs(
    config: LoraConfig,
    targets: readonly string[],
    candidates: readonly Candidate[],
    seedValue: number,
  ): Map<string, LoraPair> {
    const initialize = initializers.get(config.initLoraWeights)!;
    const made = () =>
      targets.map((path): [string, LoraPair] => {
        const site = candidates.findIndex((c) => c.path === path) * sitesALayer;
        const { r, scale } = rankAndScale(config, path);
        const module = this.model.at(path);
        const kind = module instanceof Linear ? 'linear' : 'embedding';
        const [outFeatures, inFeatures] =
          module instanceof Linear
            ? [module.outFeatures, module.inFeatures]
            : ([...(module as Embedding).weight.shape].reverse() as [number, number]);
        const { a, b } = initialize(this.device, { kind, r, inFeatures, outFeatures }, seed, site);
        return [path, { a, b, scale, dropout: config.loraDropout, site }];
      });
    using seed = keep(this.device.seed(seedValue));
    return new Map(keep(this.device.withClass('adapters', () => noGrad(() => scope(made)))));
  }

  /** Makes these adapters, and no others, count and train. Only one of them may have copies of base parameters. */
  setAdapter(names: string | readonly string[]): void {
    const list = [...new Set(typeof names === 'string' ? [names] : names)];
    for (const n of list) {
      this.#adapter(n);
      check(!this.#settled.has(n), 'lora', 'an adapter is merged already', n, 'Unmerge it, or delete it');
    }
    const withCopies = list.filter((n) => this.#adapter(n).copies.size > 0);
    check(
      withCopies.length <= 1,
      'lora',
      'only one active adapter may train biases or whole modules',
      withCopies.join(', '),
    );
    this.#state.active = list;
    this.#state.enabled = true;
    this.#apply();
  }

  /** The bare base, until `enableAdapters`. */
  disableAdapters(): void {
    this.#state.enabled = false;
    this.#apply();
  }

  enableAdapters(): void {
    this.#state.enabled = true;
    this.#apply();
  }

  /** Runs `fn` (async too) on the bare base. */
  async withoutAdapters<T>(fn: () => T | Promise<T>): Promise<T> {
    const before = this.#state.enabled;
    this.disableAdapters();
    try {
      return await fn();
    } finally {
      if (before) this.enableAdapters();
    }
  }

  deleteAdapter(name: string): void {
    const adapter = this.#adapter(name);
    if (this.#settled.delete(name)) {
      this.#placeCopies([name]);
      this.#copies.adopt(adapter.copies.keys());
    } else {
      this.#placeCopies([...this.#settled]);
      for (const { tensor } of adapter.copies.values()) disposeLeaf(tensor);
    }
    for (const [path, { a, b }] of adapter.pairs) {
      this.#layer(path).pairs.delete(name);
      disposeLeaf(a);
      disposeLeaf(b);
    }
    this.#adapters.delete(name);
    this.#state.active = this.#state.active.filter((n) => n !== name);
    this.#apply();
  }

  /** What trains now, by the names of adapter files (`model.layers.0.self_attn.q_proj.lora_A`). */
  trainableParameters(): Map<string, Tensor> {
    const out = new Map<string, Tensor>();
    if (!this.#state.enabled) return out;
    for (const name of this.#state.active) {
      const tag = this.#state.active.length > 1 ? `.${name}` : '';
      const { pairs, copies } = this.#adapter(name);
      for (const [path, { a, b }] of pairs) {
        const embedding = this.model.at(path) instanceof Embedding;
        out
          .set(`${path}.${embedding ? 'lora_embedding_A' : 'lora_A'}${tag}`, a)
          .set(`${path}.${embedding ? 'lora_embedding_B' : 'lora_B'}${tag}`, b);
      }
      for (const [path, c] of copies) out.set(path, c.tensor);
    }
    return out;
  }

  /**
   * The adapted model as the `Trainer` of `@lowrank/trainer` takes it: what is active trains, and dropout acts while it does (set `seed`, and
   * give the trainer the same tensor as `dropoutSeed`).
   */
  trainable<I>(this: LoraModel<M & Drivable<I>>): Trainee<I> {
    const { model } = this;
    const vocabSize = model.config?.vocabSize;
    return {
      parameters: () => this.trainableParameters(),
      hidden: (ids, input) => model.hidden(ids, input),
      head: (rows) => model.head(rows),
      prepare: (length) => void model.prepare?.(length),
      setTraining: (on) => {
        this.training = on;
      },
      ...(vocabSize === undefined ? {} : { vocabSize }),
    };
  }

  /** Numbers that train, numbers in all, and their ratio, as PEFT counts them. */
  counts(): Counts {
    const active = this.#state.enabled ? this.#state.active : [];
    const copies = active.flatMap((name) => [...this.#adapter(name).copies.values()]);
    return count(this.model, [...this.trainableParameters().values()], copies, this.#copies.replaced());
  }

  dispose(): void {
    for (const name of [...this.#adapters.keys()]) this.deleteAdapter(name);
    for (const path of this.#layers.keys()) (this.model.at(path) as Linear | Embedding).adapter = undefined;
    this.#layers.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #adapter(name: string): Adapter {
    const adapter = this.#adapters.get(name);
    if (!adapter)
      throw new LowrankError(
        'lora',
        'no such adapter',
        name,
        `There: ${[...this.#adapters.keys()].join(', ') || 'none'}`,
      );
    return adapter;
  }

  #layer(path: string): LoraLinearLayer | LoraEmbeddingLayer {
    let layer = this.#layers.get(path);
    if (!layer) {
      const module = this.model.at(path);
      layer = module instanceof Linear ? new LoraLinearLayer(this.#state) : new LoraEmbeddingLayer(this.#state);
      this.#layers.set(path, layer);
    }
    return layer;
  }

  /** Attaches layers that have something active (others cost nothing), puts copies in place, and marks what trains. */
  #apply(): void {
    for (const [path, layer] of this.#layers) {
      const module = this.model.at(path) as Linear | Embedding;
      module.adapter = layer.active.length ? (layer as never) : undefined;
    }
    for (const a of this.#adapters.values()) {
      const on = this.#state.enabled && this.#state.active.includes(a.name);
      for (const { a: pa, b } of a.pairs.values()) {
        pa.requireGrad(on);
        b.requireGrad(on);
      }
      for (const { tensor } of a.copies.values()) tensor.requireGrad(on);
    }
    this.#placeCopies([...this.#settled, ...(this.#state.enabled ? this.#state.active : [])]);
  }

  /** The copies of these adapters in place, later ones first; the base's own everywhere else. */
  #placeCopies(names: readonly string[]): void {
    this.#copies.place(new Map(names.flatMap((n) => [...(this.#adapters.get(n)?.copies ?? [])])));
  }

  /**
   * For merging: the updates of these adapters are in the base now. They stop counting, and the copies that they trained stay in place,
   * for good when the adapter is deleted. With `on` false the copies are the adapter's again.
   */
  settle(names: readonly string[], on = true): void {
    for (const name of names) {
      this.#adapter(name);
      if (on) this.#settled.add(name);
      else this.#settled.delete(name);
    }
    this.#state.active = this.#state.active.filter((n) => !on || !names.includes(n));
    this.#apply();
  }
}

function disposeLeaf(t: Tensor): void {
  t.grad?.dispose();
  t.grad = undefined;
  t.dispose();
}
