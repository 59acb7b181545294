import { check } from '@lowrank/kernels';
import {
  backward,
  cast,
  checkpoint,
  crossEntropy,
  DenseWeight,
  type Device,
  defineFused,
  dropout,
  Linear,
  type LinearAdapter,
  matmul,
  noGrad,
  type RecomputePolicy,
  rmsNorm,
  Scope,
  type Tensor,
  transpose,
} from '@lowrank/tensor';

/** AdamW of this suite: the fused kernel, or the formula of kernels/adamw in primitives. */
const adamw = defineFused({
  name: 'adamw',
  cost: 'cheap',
  decompose: ({ p, g, m, v, hyper }, { beta1, beta2, eps }) => {
    const at = (i: number) => hyper.slice(0, i, i + 1);
    const g32 = cast(g, 'f32');
    const m2 = m.add(g32.sub(m).mul(1 - beta1));
    const v2 = v.mul(beta2).add(g32.square().mul(1 - beta2));
    const decayed = cast(p, 'f32').mul(at(0).mul(at(1)).affine(-1, 1));
    const step = at(0)
      .div(at(2))
      .mul(m2)
      .div(v2.unary('sqrt').div(at(3)).add(eps));
    return { p: cast(decayed.sub(step), p.dtype), m: m2, v: v2 };
  },
  rule: 'none',
});

const width = 33;
const hidden = 48;
const classes = 17;
const rank = 4;
const rows = 13;
const attrs = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

interface Parameter {
  readonly p: Tensor;
  readonly m: Tensor;
  readonly v: Tensor;
}

export interface TrainStepOptions {
  /** LoRA dropout, whose masks come from the seed and the step. */
  readonly dropout?: number;
  readonly recompute?: RecomputePolicy;
}

/**
 * A network of two frozen linear layers with low-rank pairs, a norm between them, cross-entropy and AdamW. Everything that changes from
 * step to step lies in device buffers, so the step can be recorded.
 */
export class TrainStep implements Disposable {
  readonly #device: Device;
  readonly #options: TrainStepOptions;
  readonly #layers: Linear[];
  readonly #norm: Tensor;
  readonly #x: Tensor;
  readonly #labels: Tensor;
  readonly #hyper: Tensor;
  readonly #seed: Tensor;
  readonly #parameters: Parameter[];

  constructor(device: Device, seed: number, options: TrainStepOptions = {}) {
    this.#device = device;
    this.#options = options;
    this.#seed = device.seed(seed);
    this.#hyper = device.zeros([4]);
    this.#x = device.random([rows, width], { seed, site: 1 });
    this.#labels = device.tensor(Int32Array.from({ length: rows }, (_, i) => (i % 5 === 3 ? -100 : (i * 7) % classes)));
    this.#norm = device.full([hidden], 1.25);
    const leaf = (shape: readonly number[], site: number, scale: number) => {
      using raw = device.random(shape, { seed, site });
      return raw.mul(scale);
    };
    const parameter = (shape: readonly number[], site: number): Parameter => ({
      p: leaf(shape, site, 0.3).requireGrad(),
      m: device.zeros(shape),
      v: device.zeros(shape),
    });
    const layer = (out: number, inner: number, site: number) => {
      const [a, b] = [parameter([rank, inner], site + 1), parameter([out, rank], site + 2)];
      const linear = new Linear(
        new DenseWeight(leaf([out, inner], site, 1 / Math.sqrt(inner))),
        leaf([out], site + 3, 0.1),
      );
      linear.adapter = this.#adapter(a.p, b.p, site);
      return { linear, parameters: [a, b] };
    };
    const made = [layer(hidden, width, 10), layer(classes, hidden, 20)];
    this.#layers = made.map(({ linear }) => linear);
    this.#parameters = made.flatMap(({ parameters }) => parameters);
  }

  #adapter(a: Tensor, b: Tensor, site: number): LinearAdapter {
    const p = this.#options.dropout ?? 0;
    const scale = 2;
    return {
      lowRank: () => (p ? undefined : { a, b, scale }),
      forward: (x, base) => {
        const h = matmul(dropout(x, p, this.#seed, site), transpose(a));
        return matmul(h, transpose(b), { alpha: scale, c: base(x) });
      },
    };
  }

  #loss(): Tensor {
    const [first, second] = this.#layers as [Linear, Linear];
    const y = checkpoint(this.#options.recompute ?? 'none', () => {
      const h = rmsNorm(first.forward(this.#x).silu(), this.#norm, 1e-6);
      return second.forward(h);
    });
    return crossEntropy(y, this.#labels)
      .sum()
      .mul(1 / rows);
  }

  /** What changes from step to step: rate, corrections, the step of the dropout masks. */
  prepare(step: number): void {
    this.#device.write(this.#hyper, Float32Array.of(0.01, 0.1, 1 - 0.9 ** step, Math.sqrt(1 - 0.999 ** step)));
    this.#device.write(this.#seed, Uint32Array.of(99, 0, step, 0));
  }

  /** Forward, backward, AdamW. Gives the loss, f32 scalar, which the caller disposes. */
  run(): Tensor {
    using s = new Scope();
    const loss = this.#loss();
    backward(loss);
    noGrad(() => {
      for (const { p, m, v } of this.#parameters) {
        check(p.grad, 'train step', 'a parameter got no gradient');
        adamw({ p, g: p.grad, m, v, hyper: this.#hyper }, attrs, { into: { p, m, v } });
        p.grad.dispose();
        p.grad = undefined;
      }
    });
    return s.keep(loss.detach());
  }

  /** Bytes of every parameter and of the optimizer's state. */
  async bytes(): Promise<Uint8Array[]> {
    return await Promise.all(this.#parameters.flatMap(({ p, m, v }) => [p.bytes(), m.bytes(), v.bytes()]));
  }

  [Symbol.dispose](): void {
    for (const layer of this.#layers) layer.dispose();
    for (const { p, m, v } of this.#parameters) for (const t of [p, m, v]) t.dispose();
    for (const t of [this.#norm, this.#x, this.#labels, this.#hyper, this.#seed]) t.dispose();
  }
}
