import {
  dropout,
  type Embedding,
  type EmbeddingAdapter,
  type FloatDType,
  gather,
  type Linear,
  type LinearAdapter,
  LowrankError,
  matmul,
  type Tensor,
  transpose,
} from '@lowrank/tensor';

/** The trained pair of one adapter on one layer. Linear: A [r, in], B [out, r]. Embedding: A [r, vocabulary], B [width, r]. */
export interface LoraPair {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly scale: number;
  readonly dropout: number;
  /** Makes this layer's dropout mask its own. */
  readonly site: number;
}

/** What the layers of one model share: which adapters are on, and whether they are being trained. */
export interface LoraState {
  active: readonly string[];
  enabled: boolean;
  training: boolean;
  /** u32 [4], written by the trainer; needed for dropout. */
  seed: Tensor | undefined;
}

function activePairs(pairs: ReadonlyMap<string, LoraPair>, state: LoraState): LoraPair[] {
  if (!state.enabled) return [];
  return state.active.flatMap((name) => pairs.get(name) ?? []);
}

/** All adapters of one linear layer. Active ones add their updates: y = base(x) + Σ s·dropout(x)·Aᵀ·Bᵀ. */
export class LoraLinearLayer implements LinearAdapter {
  readonly pairs = new Map<string, LoraPair>();
  readonly #state: LoraState;

  constructor(state: LoraState) {
    this.#state = state;
  }

  get active(): LoraPair[] {
    return activePairs(this.pairs, this.#state);
  }

  lowRank(): LoraPair | undefined {
    const [only, ...more] = this.active;
    return only && !more.length && !(this.#state.training && only.dropout > 0) ? only : undefined;
  }

  forward(x: Tensor, base: (x: Tensor) => Tensor, _layer: Linear): Tensor {
    let y = base(x);
    const dtype = x.dtype as FloatDType;
    for (const { a, b, scale, dropout: p, site } of this.active) {
      const input = this.#state.training && p > 0 ? dropout(x, p, requireSeed(this.#state), site) : x;
      const h = matmul(input, transpose(a), { dtype });
      y = matmul(h, transpose(b), { alpha: scale, c: y, dtype });
    }
    return y;
  }
}

/** All adapters of one embedding: row + Σ s·A[:, id]ᵀ·Bᵀ. Dropout does not apply, as in PEFT. */
export class LoraEmbeddingLayer implements EmbeddingAdapter {
  readonly pairs = new Map<string, LoraPair>();
  readonly #state: LoraState;

  constructor(state: LoraState) {
    this.#state = state;
  }

  get active(): LoraPair[] {
    return activePairs(this.pairs, this.#state);
  }

  forward(ids: Tensor, rows: Tensor, _layer: Embedding): Tensor {
    let y = rows;
    for (const { a, b, scale } of this.active) {
      const h = gather(transpose(a).contiguous(), ids); // [B, T, r]
      const delta = matmul(h.reshape([-1, h.shape[2]!]), transpose(b), {
        alpha: scale,
        dtype: rows.dtype as FloatDType,
      });
      y = y.add(delta.reshape(rows.shape));
    }
    return y;
  }
}

function requireSeed(state: LoraState): Tensor {
  if (!state.seed)
    throw new LowrankError(
      'lora',
      'dropout in training needs a seed',
      '',
      'Set `lora.seed` to a u32 [4] tensor (Device.seed), and give it to the trainer as dropoutSeed',
    );
  return state.seed;
}
