/** Self-check of row kernels, low-rank linear layers, products and transfers; see selfcheck.ts. */
import type { View } from '@lowrank/kernels';
import { backend, bench, f, group, p, quantizedWeight, scratch } from './context.ts';

await group('rows', async () => {
  const [M, K, F, V] = [8192, 4096, 14336, 128256];
  const x = bench.normal([M, K], 'bf16');
  const dy = bench.normal([M, K], 'bf16');
  const y = bench.empty([M, K], 'bf16');
  const weight = bench.normal([K], 'bf16');
  const rstd = bench.empty([M], 'f32');
  const size = M * K * 2;
  await bench.time(
    'rmsNorm 8192×4096',
    [() => f.rmsNorm!.run({ inputs: { x, weight }, outputs: { y, rstd }, attrs: { eps: 1e-5 } })],
    { bytes: 2 * size },
  );
  await bench.time(
    'rmsNormBackward 8192×4096',
    [
      () =>
        f.rmsNormBackward!.run({ inputs: { dy, x, weight, rstd }, outputs: { dx: y }, attrs: { needWeight: false } }),
    ],
    { bytes: 3 * size },
  );
  const shape4 = [4, 2048, 32, 128];
  const heads = (v: View): View => ({ ...v, shape: shape4, strides: [2048 * 4096, 4096, 128, 1] });
  const [cos, sin] = [bench.normal([2048, 64], 'f32'), bench.normal([2048, 64], 'f32')];
  const positions = bench.of(
    'i32',
    Int32Array.from({ length: M }, (_, i) => i % 2048),
  );
  const ropeCall = () =>
    f.rope!.run({
      inputs: { x: heads(x), cos, sin, positions: { ...positions, shape: [4, 2048], strides: [2048, 1] } },
      outputs: { y: heads(x) },
      attrs: { inverse: false },
    });
  await bench.time('rope in place 4×2048×32×128', [ropeCall], { bytes: 2 * size });
  await bench.time(
    'binary add 8192×4096',
    [() => p.binary({ inputs: { a: x, b: dy }, outputs: { y }, attrs: { op: 'add' } })],
    { bytes: 3 * size },
  );
  await bench.time(
    'transpose 8192×4096',
    [
      () =>
        p.copy({
          inputs: { x: { ...x, shape: [K, M], strides: [1, K] } },
          outputs: { y: { ...y, shape: [K, M], strides: [M, 1] } },
          attrs: {},
        }),
    ],
    { bytes: 2 * size },
  );
  bench.free(x, dy, y, weight, rstd, cos, sin, positions);
  const gate = bench.normal([M, 2 * F], 'bf16');
  const act = bench.empty([M, F], 'bf16');
  await bench.time(
    'swiglu 8192×14336',
    [() => f.swiglu!.run({ inputs: { x: gate }, outputs: { y: act }, attrs: {} })],
    { bytes: 6 * M * F },
  );
  await bench.time(
    'swigluBackward 8192×14336 in place',
    [() => f.swigluBackward!.run({ inputs: { dy: act, x: gate }, outputs: { dx: gate }, attrs: {} })],
    { bytes: 10 * M * F },
  );
  bench.free(gate, act);
  const logits = bench.normal([2048, V], 'bf16');
  const labels = bench.of(
    'i32',
    Int32Array.from({ length: 2048 }, (_, i) => (i * 7919) % V),
  );
  const loss = bench.empty([2048], 'f32');
  await bench.time(
    'crossEntropy 2048×128256, gradient in place',
    [
      () =>
        f.crossEntropy!.run({
          inputs: { logits, labels },
          outputs: { loss, dlogits: logits },
          attrs: { gradient: true },
        }),
    ],
    { bytes: 4 * 2048 * V },
  );
  bench.free(logits, labels, loss);
  const n = 42_000_000;
  const [w, g, m, v] = [
    bench.normal([n], 'f32'),
    bench.normal([n], 'f32'),
    bench.normal([n], 'f32'),
    bench.empty([n], 'f32'),
  ];
  p.fill({ inputs: {}, outputs: { y: v }, attrs: { shape: [n], dtype: 'f32', value: 1 } });
  const hyper = bench.of('f32', Float32Array.of(1e-4, 0.01, 0.1, 0.03));
  await bench.time(
    'adamw 42M f32',
    [
      () =>
        f.adamw!.run({
          inputs: { p: w, g, m, v, hyper },
          outputs: { p: w, m, v },
          attrs: { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        }),
    ],
    { bytes: 28 * n },
  );
  const sum = bench.empty([1], 'f32');
  await bench.time(
    'sum of squares 42M f32',
    [() => p.reduce({ inputs: { x: g }, outputs: { y: sum }, attrs: { op: 'sumSquares', axes: [0] } })],
    { bytes: 4 * n },
  );
  bench.free(w, g, m, v, hyper, sum);
});

await group('lora', async () => {
  const M = 8192;
  const r = 16;
  for (const [label, K, outs] of [
    ['q, k, v', 4096, [4096, 1024, 1024]],
    ['o', 4096, [4096]],
    ['gate, up', 4096, [14336, 14336]],
    ['down', 14336, [4096]],
  ] as const) {
    const N = outs.reduce((s: number, n) => s + n, 0);
    const x = bench.normal([M, K], 'bf16', 0.1);
    const dy = bench.normal([M, N], 'bf16', 0.1);
    const layers = outs.map((n) => ({
      quant: quantizedWeight(n, K),
      a: bench.normal([r, K], 'f32', 0.01),
      b: bench.normal([n, r], 'f32', 0.01),
    }));
    const attrs = {
      layers: outs.map((n) => ({
        outFeatures: n,
        scale: 2,
        quant: { quantType: 'nf4' as const, blockSize: 64, shape: [n, K] },
      })),
    };
    const [y, h, dx] = [
      bench.empty([M, N], 'bf16'),
      bench.empty([M, r * outs.length], 'bf16'),
      bench.empty([M, K], 'bf16'),
    ];
    const da = outs.map(() => bench.empty([r, K], 'f32'));
    const db = outs.map((n) => bench.empty([n, r], 'f32'));
    const forwardSpec = { inputs: { x, layers }, outputs: { y, h }, attrs };
    const backwardSpec = { inputs: { dy, x, h, layers }, outputs: { dx, da, db }, attrs: { ...attrs, needX: true } };
    const workspace = scratch(
      Math.max(f.loraLinear!.workspace!(forwardSpec as never), f.loraLinearBackward!.workspace!(backwardSpec as never)),
    );
    const flops = 2 * M * K * N;
    const forward = () => f.loraLinear!.run({ ...forwardSpec, workspace });
    const backward = () => f.loraLinearBackward!.run({ ...backwardSpec, workspace });
    forward();
    backward();
    await bench.backend.synchronize();
    await bench.time(`loraLinear nf4 ${label} ${M}×${K}→${N}`, [forward], { flops });
    await bench.time(`loraLinearBackward nf4 ${label} ${M}×${N}→${K}`, [backward], { flops });
    for (const l of layers) {
      l.quant.dispose();
      bench.free(l.a, l.b);
    }
    bench.free(x, dy, y, h, dx, ...da, ...db, workspace);
  }
});

await group('transfers', async () => {
  const bytes = 256 << 20;
  const view = bench.empty([bytes], 'u8');
  const data = new Uint8Array(bytes).fill(7);
  for (let i = 0; i < 2; i++) {
    const t0 = performance.now();
    bench.write(view, data);
    await backend.synchronize();
    const t1 = performance.now();
    const back = await bench.read(view);
    const t2 = performance.now();
    if (back[bytes - 1] !== 7) throw new Error('transfers: the bytes came back changed');
    if (i === 0) continue;
    bench.add({
      name: 'write 256 MiB',
      microseconds: Math.round((t1 - t0) * 1000),
      fastest: 0,
      gigabytesPerSecond: Number((bytes / (t1 - t0) / 1e6).toFixed(2)),
    });
    bench.add({
      name: 'read 256 MiB',
      microseconds: Math.round((t2 - t1) * 1000),
      fastest: 0,
      gigabytesPerSecond: Number((bytes / (t2 - t1) / 1e6).toFixed(2)),
    });
  }
  bench.free(view);
});
