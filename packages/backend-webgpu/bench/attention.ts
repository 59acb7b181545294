import type { View } from '@lowrank/kernels';
import { attentionVariants } from '../src/gpu/variants.ts';
import { type Bench, relativeError } from './measure.ts';

/** Causal attention [4, 2048, 32, 128], forward and backward, or forward by each kind; something small where `small`. */
export async function attention(bench: Bench, small: boolean, withVariants: boolean): Promise<void> {
  const fused = bench.backend.fused as Required<typeof bench.backend.fused>;
  const { variants: use } = bench.launcher;
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    if (!bench.wants(`attention ${dtype}`) && !bench.wants(`attentionBackward ${dtype}`)) continue;
    const [B, H, T, D] = small ? [1, 4, 128, 64] : [4, 32, 2048, 128];
    const [q, k, v, dy] = [0, 1, 2, 3].map(() => bench.random([B, T, H, D], dtype)) as [View, View, View, View];
    const [y, dq, dk, dv] = [0, 1, 2, 3].map(() => bench.empty([B, T, H, D], dtype)) as [View, View, View, View];
    const lse = bench.empty([B, H, T], 'f32');
    const workspace = bench.empty([(B * H * T + B * T) * 8], 'u8');
    const attrs = { scale: 1 / Math.sqrt(D), causal: true };
    const flops = 2 * B * H * T * T * D; // causal: half of 4·B·H·T²·D
    const head = async (t: View) => {
      const all = await bench.values(t, (B - 1) * T * H * D, T * H * D);
      return (i: number, d: number) => all[(i * H + 3) * D + d]!;
    };
    const inputs = async () => [await head(q), await head(k), await head(v), await head(dy)] as const;
    let host: ReturnType<typeof inputs> | undefined;
    /** Weights of query i, and what they weigh. */
    const weigh = (i: number, hq: Numbers, hk: Numbers) => {
      const weights = Array.from({ length: i + 1 }, (_, j) => {
        let s = 0;
        for (let d = 0; d < D; d++) s += hq(i, d) * hk(j, d);
        return Math.exp(s * attrs.scale);
      });
      const sum = weights.reduce((p, w) => p + w, 0);
      return weights.map((w) => w / sum);
    };
    /** Rows of a few queries of head 3 of the last batch, against f64. */
    const check = async () => {
      const [hq, hk, hv] = await (host ??= inputs());
      const hy = await head(y);
      const [got, expected]: [number[], number[]] = [[], []];
      for (const i of [0, 1, T / 2 + 5, T - 1]) {
        const weights = weigh(i, hq, hk);
        for (let d = 0; d < D; d++) {
          got.push(hy(i, d));
          expected.push(weights.reduce((p, w, j) => p + w * hv(j, d), 0));
        }
      }
      return relativeError(got, expected);
    };
    /** dq of the same queries. */
    const checkBackward = async () => {
      const [hq, hk, hv, hdy] = await (host ??= inputs());
      const hdq = await head(dq);
      const [got, expected]: [number[], number[]] = [[], []];
      for (const i of [1, T / 2 + 5, T - 1]) {
        const weights = weigh(i, hq, hk);
        const slopes = weights.map((_, j) => {
          let s = 0;
          for (let d = 0; d < D; d++) s += hdy(i, d) * hv(j, d);
          return s;
        });
        const mean = weights.reduce((p, w, j) => p + w * slopes[j]!, 0);
        for (let d = 0; d < D; d++) {
          got.push(hdq(i, d));
          expected.push(weights.reduce((p, w, j) => p + w * (slopes[j]! - mean) * hk(j, d), 0) * attrs.scale);
        }
      }
      return relativeError(got, expected);
    };
    const forward = () => fused.attention.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
    const backward = () =>
      fused.attentionBackward.run({ inputs: { dy, q, k, v, y, lse }, outputs: { dq, dk, dv }, attrs, workspace });
    /** Of f16 alone: TFLOP/s on an H200. */
    const goal = (rate: number) => (dtype === 'f16' ? { goal: rate } : {});
    const before = use.attention;
    const others = dtype === 'f16' && before ? attentionVariants : [];
    const kinds = withVariants ? others : [undefined];
    for (const variant of kinds) {
      if (variant) use.attention = variant;
      const named = variant && { variant };
      await bench.time(`attention ${dtype}`, forward, { flops, check, ...goal(80), ...named });
      use.attention = before;
      // Kinds differ going forward alone.
      if (variant) continue;
      if (bench.wants(`attentionBackward ${dtype}`)) forward();
      await bench.time(`attentionBackward ${dtype}`, backward, {
        flops: 2.5 * flops,
        check: checkBackward,
        ...goal(50),
      });
    }
    bench.free(q, k, v, dy, y, dq, dk, dv, lse, workspace);
  }
}

type Numbers = (i: number, d: number) => number;
