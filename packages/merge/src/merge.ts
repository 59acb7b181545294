import type { LoraModel } from '@lowrank/lora';
import {
  check,
  DenseWeight,
  Embedding,
  type FloatDType,
  keep,
  Linear,
  type LinearWeight,
  LowrankError,
  matmul,
  noGrad,
  reduce,
  scope,
  type Tensor,
  transpose,
} from '@lowrank/tensor';

export interface MergeOptions {
  /** Adapters to merge; the active ones where absent. */
  readonly adapters?: readonly string[];
  /** Refuse results that are not finite, leaving the model as it was. */
  readonly safe?: boolean;
  /** Keep the old weights, so that `unmerge` gives them back bit for bit. */
  readonly keepOriginals?: boolean;
  /** Merge quantized layers into dense weights of this dtype instead of quantizing the sum again. */
  readonly dense?: FloatDType;
}

/** What merging did to one weight. */
export interface MergedWeight {
  readonly path: string;
  readonly format: string;
  /** ‖merged − (W + ΔW)‖ / ‖W + ΔW‖: what rounding or quantizing the sum again cost. */
  readonly relativeError: number;
  /** ‖merged − (W + ΔW)‖ / ‖ΔW‖: the same as a share of what was learnt. Above 1, more is lost than was learnt. */
  readonly errorOverUpdate: number;
}

export interface MergeReport {
  readonly weights: readonly MergedWeight[];
  /** The weight that lost most, by `errorOverUpdate`. */
  readonly worst: MergedWeight | undefined;
  /**
   * Takes the merge back, once: the old weights where they were kept, the sum minus the update elsewhere (which rounds). The adapters are
   * active again beside those that are (of those that train biases or whole modules, only they). Throws, and changes nothing, where an adapter was deleted, or kept weights were merged into again.
   */
  unmerge(): Promise<void>;
  /** Frees kept originals. */
  dispose(): void;
}

interface Change {
  readonly path: string;
  /** f32 [out, in], or [rows, width] of an embedding. */
  readonly delta: () => Tensor;
  readonly module: Linear | Embedding;
}

/** ΔW = Σ s·B·A of the named adapters, by module path. */
function changes(lora: LoraModel, names: readonly string[]): Change[] {
  const byPath = new Map<string, { a: Tensor; b: Tensor; scale: number }[]>();
  for (const name of names) {
    const adapter = lora.adapters.get(name);
    if (!adapter)
      throw new LowrankError(
        'merge',
        'no such adapter',
        name,
        `There: ${[...lora.adapters.keys()].join(', ') || 'none'}`,
      );
    check(!lora.merged.has(name), 'merge', 'the adapter is merged already', name);
    for (const [path, pair] of adapter.pairs) byPath.set(path, [...(byPath.get(path) ?? []), pair]);
  }
  for (const { name, copies } of lora.adapters.values())
    for (const path of byPath.keys())
      check(
        !copies.has(`${path}.weight`),
        'merge',
        'a weight is trained whole by another adapter',
        `${path}, ${name}`,
        'Merge or delete that one first',
      );
  return [...byPath].map(([path, pairs]) => {
    const module = lora.model.at(path) as Linear | Embedding;
    const embedding = module instanceof Embedding;
    const delta = () =>
      scope(() => {
        let sum: Tensor | undefined;
        for (const { a, b, scale } of pairs)
          sum = embedding
            ? matmul(transpose(a), transpose(b), { alpha: scale, ...(sum ? { c: sum } : {}) })
            : matmul(b, a, { alpha: scale, ...(sum ? { c: sum } : {}) });
        return sum!;
      });
    return { path, module, delta };
  });
}

async function norm(t: Tensor): Promise<number> {
  using sum = noGrad(() => scope(() => reduce('sumSquares', t.cast('f32'))));
  return Math.sqrt(await sum.item());
}

/** The new weight of one module, and what it lost. */
async function mergeOne(
  change: Change,
  options: MergeOptions,
  sign: 1 | -1,
): Promise<{ weight: LinearWeight | Tensor; facts: MergedWeight }> {
  const { module, path } = change;
  const make = noGrad(() =>
    keep(
      scope(() => {
        const delta = change.delta();
        const old = module instanceof Linear ? module.weight.dequantize('f32') : module.weight.detach().cast('f32');
        return { delta, sum: old.add(sign === 1 ? delta : delta.neg()) };
      }),
    ),
  );
  try {
    const size = await norm(make.sum);
    if (options.safe && !Number.isFinite(size))
      throw new LowrankError(
        'merge',
        'the merged weight is not finite',
        path,
        'The adapter or the base holds NaN or infinity',
      );
    let weight: LinearWeight | Tensor;
    let rounded: Tensor;
    if (module instanceof Linear) {
      const device = make.sum.device;
      weight =
        options.dense && module.weight.format !== 'dense'
          ? device.withClass(
              'weights',
              () => new DenseWeight(keep(noGrad(() => scope(() => make.sum.cast(options.dense!).contiguous())))),
            )
          : await module.weight.requantize(make.sum);
      for (const t of weight.tensors().values()) keep(t);
      rounded = keep(noGrad(() => (weight as LinearWeight).dequantize('f32')));
    } else {
      weight = keep(noGrad(() => scope(() => make.sum.cast(module.weight.dtype).contiguous())));
      rounded = keep(noGrad(() => (weight as Tensor).cast('f32')));
    }
    const lost = keep(noGrad(() => rounded.sub(make.sum)));
    const error = await norm(lost);
    const update = await norm(make.delta);
    rounded.dispose();
    lost.dispose();
    const ratio = (a: number, b: number) => (a === 0 ? 0 : a / b);
    return {
      weight,
      facts: {
        path,
        format: module instanceof Linear ? (weight as LinearWeight).format : 'dense',
        relativeError: ratio(error, size),
        errorOverUpdate: ratio(error, update),
      },
    };
  } finally {
    make.delta.dispose();
    make.sum.dispose();
  }
}

/** Puts a weight in place and gives the one that was there. */
function swap(module: Linear | Embedding, weight: LinearWeight | Tensor): LinearWeight | Tensor {
  const old = module.weight;
  (module as { weight: LinearWeight | Tensor }).weight = weight;
  return old;
}

/** An output head that shares the table of an embedding keeps the old table: it was not adapted. */
function isShared(lora: LoraModel, old: LinearWeight | Tensor): boolean {
  const tensor = 'tensors' in old ? old.tensors().get('')! : old;
  for (const [, m] of lora.model.namedModules()) for (const t of m.own().values()) if (t === tensor) return true;
  return false;
}

/**
 * Adds W + s·B·A to the weights of the model (formed in f32, rounded once) and takes the adapters off. Quantized weights are dequantized,
 * added to, and quantized again; the report says what that cost. Whole copies and biases that an adapter trained stay in place.
 */
export async function mergeAdapter(lora: LoraModel, options: MergeOptions = {}): Promise<MergeReport> {
  const names = [...new Set(options.adapters ?? lora.active)];
  if (!names.length) throw new LowrankError('merge', 'no adapter is active', '', 'Name one, or set one first');
  const list = changes(lora, names);
  const whole = names.filter((n) => lora.adapters.get(n)!.copies.size > 0);
  check(whole.length <= 1, 'merge', 'only one of the adapters may train biases or whole modules', whole.join(', '));
  const made: { change: Change; weight: LinearWeight | Tensor; facts: MergedWeight }[] = [];
  try {
    for (const change of list) made.push({ change, ...(await mergeOne(change, options, 1)) });
  } catch (error) {
    for (const { weight } of made) weight.dispose();
    throw error;
  }
  const originals = made.map(({ change, weight }) => {
    const old = swap(change.module, weight);
    if (options.keepOriginals) return old;
    if (!isShared(lora, old)) old.dispose();
    return undefined;
  });
  lora.settle(names);
  const weights = made.map((m) => m.facts);
  return {
    weights,
    worst: weights.reduce<MergedWeight | undefined>(
      (w, m) => (!w || m.errorOverUpdate > w.errorOverUpdate ? m : w),
      undefined,
    ),
    unmerge: async () => {
      for (const name of names)
        check(lora.merged.has(name), 'unmerge', 'the adapter is not merged', name, 'It was unmerged or deleted');
      for (const [i, { change, weight }] of made.entries())
        check(
          !originals[i] || change.module.weight === weight,
          'unmerge',
          'another merge came after',
          change.path,
          'Unmerge the last one first',
        );
      for (const [i, { change }] of made.entries()) {
        const kept = originals[i];
        originals[i] = undefined;
        swap(change.module, kept ?? (await mergeOne(change, {}, -1)).weight).dispose();
      }
      lora.settle(names, false);
      const trainsWhole = (name: string) => lora.adapters.get(name)!.copies.size > 0;
      const others = lora.active.filter((n) => !(trainsWhole(n) && names.some(trainsWhole)));
      lora.setAdapter([...others, ...names]);
    },
    dispose: () => {
      for (const [i, old] of originals.entries()) {
        if (old && !isShared(lora, old)) old.dispose();
        originals[i] = undefined;
      }
    },
  };
}
