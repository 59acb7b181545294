import {
  check,
  DenseWeight,
  type Device,
  Embedding,
  keep,
  Linear,
  type LinearWeight,
  LowrankError,
  type Module,
  nearest,
  noGrad,
  scope,
  type Tensor,
} from '@lowrank/tensor';
import type { LoraConfig } from './config.ts';

/** A parameter of the base that an adapter replaces by a copy, f32, which it trains. */
export interface TrainedCopy {
  readonly kind: 'module' | 'bias';
  readonly tensor: Tensor;
}

/** One parameter of the base that copies can replace. While one is in place, the slot holds what was there before. */
class Slot {
  readonly #get: () => Tensor | LinearWeight;
  readonly #set: (value: Tensor | LinearWeight) => void;
  readonly #wrap: (copy: Tensor) => Tensor | LinearWeight;
  #base: Tensor | LinearWeight | undefined;
  #copy: Tensor | undefined;

  constructor(m: Module, key: string) {
    this.#wrap = (copy) => copy;
    if (m instanceof Linear && key === 'bias') {
      this.#get = () => m.bias!;
      this.#set = (t) => void (m.bias = t as Tensor);
    } else if (m instanceof Linear) {
      this.#get = () => m.weight;
      this.#set = (w) => void (m.weight = w as LinearWeight);
      this.#wrap = (copy) => new DenseWeight(copy);
    } else if (m instanceof Embedding) {
      this.#get = () => m.weight;
      this.#set = (t) => void (m.weight = t as Tensor);
    } else {
      this.#get = () => m.own().get(key)!;
      this.#set = (t) => m.setParameter(key, t as Tensor);
    }
  }

  /** Puts a copy in place, or the base's own back. */
  put(copy: Tensor | undefined): void {
    if (copy === this.#copy) return;
    this.#base ??= this.#get();
    this.#set(copy ? this.#wrap(copy) : this.#base);
    if (!copy) this.#base = undefined;
    this.#copy = copy;
  }

  /** What the copy in place stands in for. */
  get base(): Tensor | undefined {
    return this.#base && tensorOf(this.#base);
  }

  /** The copy in place is the base's own from now on. Gives what it replaced. */
  adopt(): Tensor | LinearWeight | undefined {
    const old = this.#base;
    this.#base = this.#copy = undefined;
    return old;
  }
}

/** The parameters of a model that adapters train whole, as copies: which of them are in place. */
export class Copies {
  readonly #model: Module;
  readonly #device: Device;
  readonly #slots = new Map<string, Slot>();

  constructor(model: Module, device: Device) {
    this.#model = model;
    this.#device = device;
  }

  /** Puts these copies in place, by parameter path, and the base's own everywhere else. */
  place(wanted: ReadonlyMap<string, TrainedCopy>): void {
    for (const [path, slot] of this.#slots) slot.put(wanted.get(path)?.tensor);
  }

  /** The base's own tensors where copies are in place. */
  replaced(): Tensor[] {
    return [...this.#slots.values()].flatMap(({ base }) => base ?? []);
  }

  /** Makes copies that are in place the base's own; what they replaced is freed, unless something else of the model is tied to it. */
  adopt(paths: Iterable<string>): void {
    for (const path of paths) {
      const old = this.#slots.get(path)?.adopt();
      if (!old) continue;
      const tensor = tensorOf(old);
      if (![...this.#model.namedModules()].some(([, m]) => [...m.own().values()].includes(tensor))) old.dispose();
    }
  }

  /**
   * Fresh copies of what a configuration trains whole: `modulesToSave`, each name by PEFT's rule (the end of a module's path; everything
   * in it counts), and biases as `bias` says. The base's own must be in place. Throws for what is quantized, and
   * unless `lenient` where a name matches nothing or no bias is there to train.
   */
  make(config: LoraConfig, targets: readonly string[], lenient: boolean): Map<string, TrainedCopy> {
    const out = new Map<string, TrainedCopy>();
    try {
      for (const name of config.modulesToSave ?? []) this.#copyModules(name, targets, lenient, out);
      if (config.bias !== 'none') this.#copyBiases(config, targets, lenient, out);
    } catch (error) {
      for (const { tensor } of out.values()) tensor.dispose();
      throw error;
    }
    return out;
  }

  #copyBiases({ bias }: LoraConfig, targets: readonly string[], lenient: boolean, out: Map<string, TrainedCopy>): void {
    const found = [...this.#model.namedModules()].flatMap(([path, m]) =>
      m instanceof Linear && m.bias && (bias === 'all' || targets.includes(path)) ? [{ path, m, own: m.bias }] : [],
    );
    check(
      lenient || found.length > 0,
      'lora',
      'bias finds none to train',
      () => `${bias}, and ${bias === 'all' ? 'no linear layer' : 'no target'} of the model has a bias`,
      'Leave it out',
    );
    for (const { path, m, own } of found) this.#copy(`${path}.bias`, 'bias', m, 'bias', own, out);
  }

  #copyModules(name: string, targets: readonly string[], lenient: boolean, out: Map<string, TrainedCopy>): void {
    const modules = [...this.#model.namedModules()].filter(([path, m]) => path !== '' && m.own().size > 0);
    const inside = (path: string) =>
      path.split('.').some((_, i, parts) =>
        parts
          .slice(0, i + 1)
          .join('.')
          .endsWith(name),
      );
    const found = modules.filter(([path]) => inside(path));
    if (!name || (!found.length && !lenient))
      throw new LowrankError(
        'lora',
        'modulesToSave matches nothing',
        name,
        `Nearest: ${nearest(
          name,
          modules.map(([path]) => path),
        ).join(', ')}`,
      );
    for (const [path, m] of found) {
      check(!targets.includes(path), 'lora', 'a module is a target and in modulesToSave', path, 'Leave it out of one');
      check(
        !(m instanceof Linear) || 'weight' in m.weight.operand(),
        'lora',
        'modulesToSave needs a dense weight',
        path,
        'Load the base dense, or leave this module out',
      );
      for (const [key, tensor] of m.own()) this.#copy(`${path}.${key}`, 'module', m, key, tensor, out);
    }
  }

  #copy(
    path: string,
    kind: TrainedCopy['kind'],
    module: Module,
    key: string,
    original: Tensor,
    out: Map<string, TrainedCopy>,
  ): void {
    if (out.has(path)) return;
    const tensor = this.#device.withClass('adapters', () =>
      noGrad(() => keep(scope(() => original.cast('f32').add(0)))),
    );
    out.set(path, { kind, tensor });
    if (!this.#slots.has(path)) this.#slots.set(path, new Slot(module, key));
  }
}

function tensorOf(own: Tensor | LinearWeight): Tensor {
  return own instanceof DenseWeight ? own.tensor : (own as Tensor);
}
