/**
 * Times ops on the device and compares samples of their results with f64: node --conditions=source bench/ops.ts [name part …]
 *   --tile=128x128x16x8x8   one portable tile for every product       --no-matrix             no subgroup matrices
 *   --features=portable     or a list with commas                     --size=4096             smaller on slow devices
 *   --dawn=…                options of Dawn                           --out=FILE              appends JSON lines
 */
import { parseArgs } from 'node:util';
import { nf4Codebook, type View } from '@lowrank/kernels';
import type { WebGpuFeature } from '../src/adapter.ts';
import { Bench, relativeError, round } from './measure.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tile: { type: 'string' },
    'no-matrix': { type: 'boolean' },
    features: { type: 'string', default: 'auto' },
    size: { type: 'string', default: '4096' },
    dawn: { type: 'string', multiple: true },
    out: { type: 'string' },
  },
});
const features = ['auto', 'portable'].includes(values.features)
  ? (values.features as 'auto' | 'portable')
  : (values.features.split(',') as WebGpuFeature[]);
const bench = await Bench.open(
  { features, ...(values.dawn && { dawn: values.dawn }), matrices: !values['no-matrix'] },
  values.out,
  positionals,
);
const { primitives, memory } = bench.backend;
const fused = bench.backend.fused as Required<typeof bench.backend.fused>;
if (values.tile) {
  const [BM, BN, BK, TM, TN] = values.tile.split('x').map(Number) as [number, number, number, number, number];
  bench.launcher.variants.tile = { BM, BN, BK, TM, TN };
}
const N = Number(values.size);

/** Some rows of a product of contiguous [N, N] matrices against f64. `turned` operands are transposed. */
async function productError(a: View, b: View, y: View, left: boolean, right: boolean): Promise<number> {
  const [x, w] = [await bench.values(a, 0, N * N), await bench.values(b, 0, N * N)];
  const [got, expected]: [number[], number[]] = [[], []];
  for (const i of [0, N >> 3, (N >> 1) + 3, N - 1]) {
    const row = await bench.values(y, i * N, N);
    for (let j = 5; j < N; j += 61) {
      let sum = 0;
      for (let k = 0; k < N; k++) sum += x[left ? k * N + i : i * N + k]! * w[right ? j * N + k : k * N + j]!;
      got.push(row[j]!);
      expected.push(sum);
    }
  }
  return relativeError(got, expected);
}

for (const dtype of ['f32', 'f16', 'bf16'] as const) {
  const names = ['matmul', 'add', 'softmax', 'rmsNorm', 'copy'].map((n) => `${n} ${dtype}`);
  if (!names.some((n) => ['', ' NN', ' NT', ' TN'].some((s) => bench.wants(n + s)))) continue;
  const [a, b, y] = [bench.random([N, N], dtype), bench.random([N, N], dtype), bench.empty([N, N], dtype)];
  const turn = (v: View): View => ({ ...v, strides: [1, N] });
  const flops = 2 * N ** 3;
  for (const [kind, left, right] of [
    ['NN', false, false],
    ['NT', false, true],
    ['TN', true, false],
  ] as const)
    await bench.time(
      `matmul ${dtype} ${kind}`,
      () =>
        primitives.matmul({
          inputs: { a: left ? turn(a) : a, b: right ? turn(b) : b },
          outputs: { y },
          attrs: {},
        }),
      { flops, check: () => productError(a, b, y, left, right) },
    );
  const size = dtype === 'f32' ? 4 : 2;
  await bench.time(`copy ${dtype}`, () => primitives.copy({ inputs: { x: a }, outputs: { y }, attrs: {} }), {
    bytes: 2 * N * N * size,
  });
  await bench.time(
    `add ${dtype}`,
    () => primitives.binary({ inputs: { a, b }, outputs: { y }, attrs: { op: 'add' } }),
    { bytes: 3 * N * N * size },
  );
  await bench.time(`softmax ${dtype}`, () => fused.softmax.run({ inputs: { x: a }, outputs: { y }, attrs: {} }), {
    bytes: 2 * N * N * size,
  });
  const [weight, rstd] = [bench.random([N], dtype), bench.empty([N], 'f32')];
  await bench.time(
    `rmsNorm ${dtype}`,
    () => fused.rmsNorm.run({ inputs: { x: a, weight }, outputs: { y, rstd }, attrs: { eps: 1e-6 } }),
    { bytes: 2 * N * N * size },
  );
  bench.free(a, b, y, weight, rstd);
}

if (
  ['dequantize', 'quantMatmul'].some((n) =>
    ['f32', 'f16', 'bf16'].some((d) => bench.wants(`${n} nf4 ${d}`) || bench.wants(`${n} nf4 ${d} transposed`)),
  )
) {
  const codes = bench.random([(N * N) / 2], 'u8');
  const absmax = bench.random([(N * N) / 64], 'f32');
  const codebook = bench.empty([16], 'f32');
  memory.write(codebook.buffer, 0, new Uint8Array(Float32Array.from(nf4Codebook).buffer));
  const weight = { codes, absmax, codebook };
  const attrs = { quantType: 'nf4', blockSize: 64, shape: [N, N] } as const;
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    const y = bench.empty([N, N], dtype);
    await bench.time(
      `dequantize nf4 ${dtype}`,
      () => fused.dequantize.run({ inputs: { weight }, outputs: { y }, attrs: { ...attrs, dtype } }),
      { bytes: N * N * (0.5 + 4 / 64 + (dtype === 'f32' ? 4 : 2)) },
    );
    const x = bench.random([N, N], dtype);
    for (const transposed of [false, true])
      await bench.time(
        `quantMatmul nf4 ${dtype}${transposed ? ' transposed' : ''}`,
        () => fused.quantMatmul.run({ inputs: { x, weight }, outputs: { y }, attrs: { ...attrs, transposed } }),
        { flops: 2 * N ** 3 },
      );
    bench.free(x, y);
  }
  bench.free(codes, absmax, codebook);
}

for (const dtype of ['f32', 'f16', 'bf16'] as const) {
  if (!bench.wants(`attention ${dtype}`) && !bench.wants(`attentionBackward ${dtype}`)) continue;
  const [B, H, T, D] = N >= 4096 ? [4, 32, 2048, 128] : [1, 4, 256, 64];
  const [q, k, v, dy] = [0, 1, 2, 3].map(() => bench.random([B, T, H, D], dtype)) as [View, View, View, View];
  const [y, dq, dk, dv] = [0, 1, 2, 3].map(() => bench.empty([B, T, H, D], dtype)) as [View, View, View, View];
  const lse = bench.empty([B, H, T], 'f32');
  const attrs = { scale: 1 / Math.sqrt(D), causal: true };
  const flops = 2 * B * H * T * T * D; // causal: half of 4·B·H·T²·D
  /** Rows of a few queries of head 3 of the last batch, against f64. */
  const check = async () => {
    const head = async (t: View) => {
      const all = await bench.values(t, (B - 1) * T * H * D, T * H * D);
      return (i: number, d: number) => all[(i * H + 3) * D + d]!;
    };
    const [hq, hk, hv, hy] = [await head(q), await head(k), await head(v), await head(y)];
    const [got, expected]: [number[], number[]] = [[], []];
    for (const i of [0, 1, T / 2 + 5, T - 1]) {
      const weights = Array.from({ length: i + 1 }, (_, j) => {
        let s = 0;
        for (let d = 0; d < D; d++) s += hq(i, d) * hk(j, d);
        return Math.exp(s * attrs.scale);
      });
      const sum = weights.reduce((p, w) => p + w, 0);
      for (let d = 0; d < D; d++) {
        got.push(hy(i, d));
        expected.push(weights.reduce((p, w, j) => p + w * hv(j, d), 0) / sum);
      }
    }
    return relativeError(got, expected);
  };
  const forward = () => fused.attention.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
  await bench.time(`attention ${dtype}`, forward, { flops, check });
  const workspace = bench.empty([(B * H * T + B * T) * 8], 'u8');
  if (bench.wants(`attentionBackward ${dtype}`)) forward();
  await bench.time(
    `attentionBackward ${dtype}`,
    () => fused.attentionBackward.run({ inputs: { dy, q, k, v, y, lse }, outputs: { dq, dk, dv }, attrs, workspace }),
    { flops: 2.5 * flops },
  );
  bench.free(q, k, v, dy, y, dq, dk, dv, lse, workspace);
}

for (const dtype of ['f32', 'f16'] as const) {
  if (!['x·Aᵀ', 'gᵀ·x', 'h·Bᵀ'].some((n) => bench.wants(`${n} ${dtype}`))) continue;
  // LoRA's products: tall and thin.
  const [x, a, h, g] = [
    bench.random([N, N], dtype),
    bench.random([16, N], dtype),
    bench.random([N, 16], dtype),
    bench.empty([16, N], 'f32'),
  ];
  const size = dtype === 'f32' ? 4 : 2;
  await bench.time(
    `x·Aᵀ ${dtype}`,
    () =>
      primitives.matmul({
        inputs: { a: x, b: { ...a, shape: [N, 16], strides: [1, N] } },
        outputs: { y: h },
        attrs: {},
      }),
    { bytes: N * N * size },
  );
  await bench.time(
    `gᵀ·x ${dtype}`,
    () =>
      primitives.matmul({
        inputs: { a: { ...h, shape: [16, N], strides: [1, 16] }, b: x },
        outputs: { y: g },
        attrs: { dtype: 'f32' },
      }),
    { bytes: N * N * size },
  );
  bench.free(x, a, h, g);
}

if (bench.wants('host time a dispatch')) {
  const [a, y] = [bench.random([64], 'f32'), bench.empty([64], 'f32')];
  const many = () => {
    for (let i = 0; i < 1000; i++) primitives.unary({ inputs: { x: a }, outputs: { y }, attrs: { op: 'silu' } });
  };
  const micros = async (fn: () => void) => {
    const samples: number[] = [];
    for (let i = 0; i < 9; i++) {
      const t = performance.now();
      fn();
      samples.push(performance.now() - t);
      await bench.backend.synchronize();
    }
    return samples.sort((p, q) => p - q)[4]!;
  };
  const eager = await micros(many);
  bench.backend.record!.begin();
  many();
  const recording = bench.backend.record!.end();
  const replayed = await micros(() => recording.replay());
  recording.release();
  bench.add({ name: 'host time a dispatch', eagerMicroseconds: round(eager), replayedMicroseconds: round(replayed) });
}
await bench.backend.close();
process.exit(0);
