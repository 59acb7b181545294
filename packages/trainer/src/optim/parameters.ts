import {
  bytesOf,
  check,
  copyInto,
  type Device,
  fillInto,
  isFloat,
  LowrankError,
  noGrad,
  reshape,
  Scope,
  slice,
  type Tensor,
} from '@lowrank/tensor';
import { type GroupOptions, groupsOf, type ResolvedGroup } from './groups.ts';

/** A parameter's place in a unit. */
export interface Part {
  readonly name: string;
  readonly tensor: Tensor;
  /** Elements of the unit. */
  readonly start: number;
  readonly end: number;
}

/** What one optimizer call updates: a parameter, or all parameters of a group that lie in one buffer. */
export interface Unit {
  readonly value: Tensor;
  readonly grad: Tensor;
  readonly group: ResolvedGroup;
  readonly parts: readonly Part[];
}

export interface ParameterOptions {
  readonly groups?: readonly GroupOptions[];
  /** Weight decay on matrices alone, or also on vectors (norms, biases). */
  readonly decay?: 'matrices' | 'all';
  /** Gather small sets of f32 parameters in one buffer, so that a step is a few calls. `auto`: up to 256 MiB. */
  readonly flatten?: 'auto' | 'off';
}

const flattenBytes = 256 * 2 ** 20;

/**
 * The trained parameters with their gradients. Gradients live as long as this object, in f32, and are added to by every backward pass;
 * `zeroGrad` clears them. Gathered parameters stay the same tensors, in another place.
 */
export class Parameters implements Disposable {
  readonly device: Device;
  readonly named: ReadonlyMap<string, Tensor>;
  readonly units: readonly Unit[];
  /** All gradients, where they lie in one buffer. */
  readonly flatGrad: Tensor | undefined;
  readonly #held: Tensor[] = [];

  constructor(device: Device, named: Iterable<readonly [string, Tensor]>, options: ParameterOptions = {}) {
    this.device = device;
    this.named = checked(device, named);
    using scope = new Scope();
    const groups = groupsOf([...this.named], options.groups ?? [], options.decay ?? 'matrices');
    this.units = noGrad(() => (this.#flattens(options.flatten ?? 'auto') ? this.#flat(groups) : this.#single(groups)));
    this.flatGrad = this.#held.length === 1 ? this.#held[0] : undefined;
    scope.detach(this.units.flatMap((u) => [u.value, u.grad]));
    scope.detach(this.#held);
    scope.detach([...this.named.values()].flatMap((t) => (t.grad ? [t.grad] : [])));
  }

  /** Numbers that are trained. */
  get count(): number {
    let n = 0;
    for (const t of this.named.values()) n += t.size;
    return n;
  }

  zeroGrad(): void {
    if (this.flatGrad) fillInto(this.flatGrad, 0);
    else for (const { grad } of this.units) fillInto(grad, 0);
  }

  #flattens(mode: 'auto' | 'off'): boolean {
    if (mode === 'off') return false;
    const bytes = this.count * bytesOf.f32;
    return (
      [...this.named.values()].every((t) => t.dtype === 'f32') &&
      bytes <= Math.min(flattenBytes, this.device.backend.caps.limits.maxBufferBytes / 2)
    );
  }

  /** Every parameter by itself. */
  #single(groups: ReadonlyMap<ResolvedGroup, [string, Tensor][]>): Unit[] {
    return [...groups].flatMap(([group, list]) =>
      list.map(([name, tensor]): Unit => {
        tensor.grad = this.device.withClass('gradients', () => this.device.zeros(tensor.shape, 'f32'));
        return {
          value: tensor.alias(),
          grad: tensor.grad.alias(),
          group,
          parts: [{ name, tensor, start: 0, end: tensor.size }],
        };
      }),
    );
  }

  /** One buffer for all values and one for all gradients; a group is a range of them, a parameter a view. */
  #flat(groups: ReadonlyMap<ResolvedGroup, [string, Tensor][]>): Unit[] {
    const unit = Math.max(1, this.device.backend.memory.alignment / bytesOf.f32);
    const up = (n: number) => Math.ceil(n / unit) * unit;
    const total = [...this.named.values()].reduce((sum, t) => sum + up(t.size), 0);
    const cls = [...this.named.values()][0]!.storage.memoryClass;
    const values = this.device.withClass(cls, () => this.device.zeros([total]));
    const grads = this.device.withClass('gradients', () => this.device.zeros([total]));
    this.#held.push(grads);
    let at = 0;
    const units = [...groups].map(([group, list]): Unit => {
      const first = at;
      const parts = list.map(([name, tensor]): Part => {
        const window = (flat: Tensor) => reshape(slice(flat, 0, at, at + tensor.size), tensor.shape);
        const home = window(values);
        copyInto(tensor, home);
        tensor.moveTo(home);
        tensor.grad = window(grads);
        const start = at - first;
        at += up(tensor.size);
        return { name, tensor, start, end: start + tensor.size };
      });
      return { value: slice(values, 0, first, at), grad: slice(grads, 0, first, at), group, parts };
    });
    return units;
  }

  dispose(): void {
    for (const t of this.named.values()) {
      t.grad?.dispose();
      t.grad = undefined;
    }
    for (const { value, grad } of this.units) {
      value.dispose();
      grad.dispose();
    }
    for (const t of this.#held.splice(0)) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checked(device: Device, named: Iterable<readonly [string, Tensor]>): Map<string, Tensor> {
  const out = new Map<string, Tensor>();
  const names = new Map<Tensor, string>();
  for (const [name, t] of named) {
    const twin = names.get(t);
    if (twin !== undefined) throw new LowrankError('train', 'a parameter comes under two names', `${twin}, ${name}`);
    check(!out.has(name), 'train', 'two parameters have one name', name);
    check(
      t.requiresGrad && !t.node,
      'train',
      'a parameter is not trainable',
      name,
      'Parameters are leaves with requireGrad()',
    );
    check(isFloat(t.dtype), 'train', 'a parameter must hold floats', `${name}: ${t.dtype}`);
    check(t.device === device, 'train', 'a parameter lives on another device', name);
    check(
      !t.grad,
      'train',
      'a parameter has a gradient already',
      name,
      'Another trainer holds it, or backward() ran before: dispose that first',
    );
    out.set(name, t);
    names.set(t, name);
  }
  check(out.size > 0, 'train', 'nothing to train', 'the model gives no parameters');
  return out;
}
