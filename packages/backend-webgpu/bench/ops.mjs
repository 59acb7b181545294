// Times ops on the device: node --conditions=source bench/ops.mjs [filter] [--tile=128x128x16x8x8] [--no-matrix] [--features=portable]
// One JSON line a case. GPU time comes from timestamp queries where there are any, else from the clock over many calls.
import { parseArgs } from 'node:util';
import { nf4Codebook } from '@lowrank/kernels';
import { adapterFacts, findAdapter, openDevice } from '../src/adapter.ts';
import { createBackend } from '../src/backend.ts';
import { tryMatrices } from '../src/probe.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tile: { type: 'string' },
    'no-matrix': { type: 'boolean' },
    features: { type: 'string' },
    size: { type: 'string', default: '4096' },
    dawn: { type: 'string', multiple: true },
  },
});
const adapter = await findAdapter({ dawn: values.dawn });
const device = await openDevice(adapter, values.features === 'portable' ? 'portable' : 'auto');
const { backend, launcher } = createBackend(device, adapterFacts(adapter.info, device));
if (!values['no-matrix']) await tryMatrices(backend, launcher, adapter.info);
if (values.tile) {
  const [BM, BN, BK, TM, TN] = values.tile.split('x').map(Number);
  launcher.variants.tile = { BM, BN, BK, TM, TN };
}
const { memory, primitives, fused } = backend;
const bytes = { f32: 4, f16: 2, bf16: 2, u8: 1, i32: 4, u32: 4 };

function make(shape, dtype, strides) {
  const n = shape.reduce((p, d) => p * d, 1);
  const contiguous = shape.map((_, i) => shape.slice(i + 1).reduce((p, d) => p * d, 1));
  return { dtype, shape, strides: strides ?? contiguous, buffer: memory.allocate(n * bytes[dtype]), byteOffset: 0 };
}
function random(shape, dtype, strides) {
  const y = make(shape, dtype, strides);
  const seed = make([4], 'u32');
  memory.write(seed.buffer, 0, new Uint8Array(Uint32Array.of(1, 2, 3, 4).buffer));
  const n = shape.reduce((p, d) => p * d, 1);
  const flat = { ...y, shape: [n], strides: [1] };
  primitives.random({
    inputs: { seed },
    outputs: { y: flat },
    attrs: { shape: [n], dtype, distribution: 'normal', site: 0 },
  });
  return y;
}
async function time(name, work, run, unit) {
  if (positionals.length && !positionals.some((p) => name.includes(p))) return;
  try {
    run();
    await backend.synchronize();
    const clock = async (n) => {
      const t = performance.now();
      for (let i = 0; i < n; i++) run();
      await backend.synchronize();
      return (performance.now() - t) / n;
    };
    const once = await clock(1);
    const n = Math.max(1, Math.min(100, Math.ceil(500 / once)));
    const ms = await clock(n);
    const gpu = device.features.has('timestamp-query')
      ? (await backend.gpuTime(() => {
          for (let i = 0; i < Math.min(n, 20); i++) run();
        })) /
        Math.min(n, 20) /
        1e6
      : undefined;
    const best = gpu ?? ms;
    console.log(
      JSON.stringify({
        name,
        clockMs: +ms.toFixed(4),
        gpuMs: gpu && +gpu.toFixed(4),
        [unit]: +(work / best / 1e9).toFixed(2),
        calls: n,
      }),
    );
  } catch (error) {
    console.log(JSON.stringify({ name, error: String(error).slice(0, 400) }));
  }
}

console.log(
  JSON.stringify({ device: backend.caps.device, features: backend.caps.features, variants: backend.variants() }),
);
const N = Number(values.size);
for (const dtype of ['f32', 'f16', 'bf16']) {
  const [a, b, y] = [random([N, N], dtype), random([N, N], dtype), make([N, N], dtype)];
  const bt = { ...b, strides: [1, N] };
  const at = { ...a, strides: [1, N] };
  await time(
    `matmul ${dtype} NN`,
    2 * N ** 3,
    () => primitives.matmul({ inputs: { a, b }, outputs: { y }, attrs: {} }),
    'tflops',
  );
  await time(
    `matmul ${dtype} NT`,
    2 * N ** 3,
    () => primitives.matmul({ inputs: { a, b: bt }, outputs: { y }, attrs: {} }),
    'tflops',
  );
  await time(
    `matmul ${dtype} TN`,
    2 * N ** 3,
    () => primitives.matmul({ inputs: { a: at, b }, outputs: { y }, attrs: {} }),
    'tflops',
  );
  const bytesMoved = 3 * N * N * bytes[dtype];
  await time(
    `add ${dtype}`,
    bytesMoved,
    () => primitives.binary({ inputs: { a, b }, outputs: { y }, attrs: { op: 'add' } }),
    'tbs',
  );
  for (const v of [a, b, y]) memory.release(v.buffer);
}
{
  const codes = make([(N * N) / 2], 'u8');
  const absmax = random([(N * N) / 64], 'f32');
  const codebook = make([16], 'f32');
  memory.write(codebook.buffer, 0, new Uint8Array(Float32Array.from(nf4Codebook).buffer));
  const weight = { codes, absmax, codebook };
  const attrs = { quantType: 'nf4', blockSize: 64, shape: [N, N] };
  for (const dtype of ['f32', 'f16', 'bf16']) {
    const y = make([N, N], dtype);
    const moved = N * N * (0.5 + 4 / 64 + bytes[dtype]);
    await time(
      `dequantize nf4 ${dtype}`,
      moved,
      () => fused.dequantize.run({ inputs: { weight }, outputs: { y }, attrs: { ...attrs, dtype } }),
      'tbs',
    );
    const x = random([N, N], dtype);
    for (const transposed of [false, true])
      await time(
        `quantMatmul nf4 ${dtype}${transposed ? ' transposed' : ''}`,
        2 * N ** 3,
        () => fused.quantMatmul.run({ inputs: { x, weight }, outputs: { y }, attrs: { ...attrs, transposed } }),
        'tflops',
      );
    for (const v of [x, y]) memory.release(v.buffer);
  }
}
for (const dtype of ['f32', 'f16', 'bf16']) {
  const [B, H, T, D] = N >= 4096 ? [4, 32, 2048, 128] : [1, 4, 256, 64];
  const [q, k, v, dy] = [0, 1, 2, 3].map(() => random([B, T, H, D], dtype));
  const [y, dq, dk, dv] = [0, 1, 2, 3].map(() => make([B, T, H, D], dtype));
  const lse = make([B, H, T], 'f32');
  const attrs = { scale: 1 / Math.sqrt(D), causal: true };
  const flops = 2 * B * H * T * T * D; // causal: half of 4·B·H·T²·D
  await time(
    `attention ${dtype}`,
    flops,
    () => fused.attention.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs }),
    'tflops',
  );
  const workspace = make([(B * H * T + B * T) * 8], 'u8');
  await time(
    `attentionBackward ${dtype}`,
    2.5 * flops,
    () => fused.attentionBackward.run({ inputs: { dy, q, k, v, y, lse }, outputs: { dq, dk, dv }, attrs, workspace }),
    'tflops',
  );
  for (const t of [q, k, v, dy, y, dq, dk, dv, lse, workspace]) memory.release(t.buffer);
}
{
  // LoRA's products: tall and thin.
  const [x, a, h] = [random([N, N], 'f32'), random([16, N], 'f32'), make([N, 16], 'f32')];
  await time(
    'x·Aᵀ r=16',
    2 * N * N * 16,
    () =>
      primitives.matmul({
        inputs: { a: x, b: { ...a, shape: [N, 16], strides: [1, N] } },
        outputs: { y: h },
        attrs: {},
      }),
    'tflops',
  );
  const da = make([16, N], 'f32');
  await time(
    'gᵀ·x r=16',
    2 * N * N * 16,
    () =>
      primitives.matmul({
        inputs: { a: { ...h, shape: [16, N], strides: [1, 16] }, b: x },
        outputs: { y: da },
        attrs: {},
      }),
    'tflops',
  );
}
{
  // Host time of a dispatch: eager and replayed.
  const [a, y] = [random([64], 'f32'), make([64], 'f32')];
  const many = () => {
    for (let i = 0; i < 1000; i++) primitives.unary({ inputs: { x: a }, outputs: { y }, attrs: { op: 'silu' } });
  };
  many();
  await backend.synchronize();
  let t = performance.now();
  many();
  const eager = performance.now() - t;
  await backend.synchronize();
  backend.record.begin();
  many();
  const recording = backend.record.end();
  recording.replay();
  await backend.synchronize();
  t = performance.now();
  recording.replay();
  const replayed = performance.now() - t;
  await backend.synchronize();
  recording.release();
  console.log(
    JSON.stringify({ name: 'host time a dispatch', eagerUs: +eager.toFixed(3), replayedUs: +replayed.toFixed(3) }),
  );
}
await backend.close();
process.exit(0);
