import {
  attention,
  backward,
  checkpoint,
  crossEntropy,
  DenseWeight,
  type Device,
  dropout,
  gather,
  Linear,
  linearCrossEntropy,
  linearGroup,
  matmul,
  type RecomputePolicy,
  rmsNorm,
  rope,
  Scope,
  scope,
  split,
  swiglu,
  type Tensor,
} from '../../src/index.ts';

const [B, T, Hq, Hkv, D, K, F, V] = [2, 7, 4, 2, 8, 32, 24, 20] as const;

export interface StepOptions {
  readonly policy?: RecomputePolicy;
  readonly chunked?: boolean;
  readonly offload?: boolean;
}

/** Three transformer blocks with low-rank pairs, a packed row, dropout and tied head: small, but everything that a real step has. */
export class TinyModel {
  readonly parameters = new Map<string, Tensor>();
  readonly #owned: { dispose(): void }[] = [];
  readonly loss: (options?: StepOptions) => Tensor;

  constructor(device: Device) {
    using s = new Scope();
    const own = <X extends { dispose(): void }>(t: X): X => {
      this.#owned.push(t);
      return s.detach(t);
    };
    const normal = (shape: readonly number[], site: number) =>
      s.detach(device.random(shape, { seed: 3, site }).mul(0.2));
    const parameter = (name: string, shape: readonly number[], site: number) => {
      const t = own(normal(shape, site)).requireGrad();
      this.parameters.set(name, t);
      return t;
    };
    const linear = (out: number, input: number, site: number, lowRank: boolean) => {
      const layer = new Linear(new DenseWeight(normal([out, input], site)));
      this.#owned.push(layer);
      if (lowRank) {
        const a = parameter(`a${site}`, [4, input], site + 100);
        const b = parameter(`b${site}`, [out, 4], site + 200);
        layer.adapter = { lowRank: () => ({ a, b, scale: 2 }), forward: (x) => x };
      }
      return layer;
    };
    const table = parameter('table', [V, K], 1);
    const norms = [parameter('norm1', [K], 2), parameter('norm2', [K], 3)] as const;
    const [q, k, v, o] = [
      linear(Hq * D, K, 10, true),
      linear(Hkv * D, K, 11, false),
      linear(Hkv * D, K, 12, true),
      linear(K, Hq * D, 13, true),
    ];
    const [gate, up, down] = [linear(F, K, 14, true), linear(F, K, 15, true), linear(K, F, 16, true)];
    const ints = (rows: number[][] | number[]) => own(device.tensor(rows, { dtype: 'i32' }));
    const ids = ints([
      [1, 2, 3, 4, 5, 6, 7],
      [7, 6, 5, 4, 3, 2, 1],
    ]);
    const labels = ints([2, 3, 4, 5, 6, 7, -100, 6, 5, 4, 3, 2, 1, -100]);
    const positions = ints([
      [0, 1, 2, 0, 1, 2, 3],
      [0, 1, 2, 3, 4, 5, 6],
    ]);
    const starts = ints([
      [0, 0, 0, 3, 3, 3, 3],
      [0, 0, 0, 0, 0, 0, 0],
    ]);
    const angles = Array.from({ length: 16 }, (_, p) => Array.from({ length: D / 2 }, (_, i) => p / 100 ** (i / 4)));
    const cos = own(device.tensor(angles.map((r) => r.map(Math.cos))));
    const sin = own(device.tensor(angles.map((r) => r.map(Math.sin))));
    const seed = own(device.seed(5));
    const scale = own(device.tensor([1 / 12]));

    const block = (x: Tensor) =>
      scope(() => {
        const qkv = linearGroup(rmsNorm(x, norms[0], 1e-5), [q, k, v]);
        const [q4, k4, v4] = split(qkv, [Hq * D, Hkv * D, Hkv * D]) as [Tensor, Tensor, Tensor];
        const turn = (t: Tensor, n: number) => rope(t.reshape([B, T, n, D]), cos, sin, positions);
        const y = attention(turn(q4, Hq), turn(k4, Hkv), v4.reshape([B, T, Hkv, D]), { starts });
        const mid = x.add(dropout(o.forward(y.reshape([B, T, Hq * D])), 0.1, seed, 1));
        return mid.add(down.forward(swiglu(linearGroup(rmsNorm(mid, norms[1], 1e-5), [gate, up]))));
      });
    this.loss = ({ policy = 'none', chunked = false, offload = false } = {}) =>
      scope(() => {
        let x = gather(table, ids);
        for (let i = 0; i < 3; i++) {
          const input = x;
          device.offloads?.turn();
          x = checkpoint(policy, () => block(input), { offload });
          if (offload) input.offload();
        }
        device.offloads?.settle();
        const hidden = x.reshape([B * T, K]);
        const head = (rows: Tensor) => matmul(rows, table.transpose());
        return chunked
          ? linearCrossEntropy(hidden, head, labels, { scale, chunkRows: 5 })
          : crossEntropy(head(hidden), labels)
              .sum()
              .mul(1 / 12);
      });
  }

  /** One forward and backward pass. */
  step(options?: StepOptions): Tensor {
    const loss = this.loss(options);
    backward(loss);
    return loss;
  }

  async gradients(): Promise<Map<string, Float32Array>> {
    const out = new Map<string, Float32Array>();
    for (const [name, p] of this.parameters) out.set(name, (await p.grad!.toArray()) as Float32Array);
    return out;
  }

  dispose(): void {
    for (const p of this.parameters.values()) p.grad?.dispose();
    for (const t of this.#owned) t.dispose();
  }
}
