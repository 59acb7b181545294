/**
 * Checks each kernel at its working size against f64 and times it: node --conditions=source bench/selfcheck.ts [record.jsonl] [name filter].
 * Needs a GPU. The sizes are those of an 8B model (hidden 4096, feed-forward 14336, vocabulary 128256).
 */
import { dynamicMap, nf4Bounds, nf4Codebook, type QuantViews, type View } from '@lowrank/kernels';
import { quantized } from '../src/fused/quant.ts';
import { codeOf, rangeOf } from '../src/runtime/views.ts';
import { backend, bench, f, group, p, quantizedWeight, setsFor } from './context.ts';
import { relativeError } from './measure.ts';

await group('ceilings', async () => {
  const n = 1 << 28;
  const [x, y] = [bench.normal([n], 'f32'), bench.empty([n], 'f32')];
  await bench.time('copy 1 GiB', [() => p.copy({ inputs: { x }, outputs: { y }, attrs: {} })], { bytes: 8 * n });
  bench.free(x, y);
  // As many bytes as dequantize moves for 4096×4096.
  const short = Array.from(
    { length: 12 },
    () => [bench.normal([21 << 18], 'f32'), bench.empty([21 << 18], 'f32')] as const,
  );
  await bench.time(
    'copy 21 MiB',
    short.map(
      ([from, to]) =>
        () =>
          p.copy({ inputs: { x: from }, outputs: { y: to }, attrs: {} }),
    ),
    { bytes: 42 << 20 },
  );
  bench.free(...short.flat());
  for (const [m, nn, k] of [
    [8192, 8192, 8192],
    [8192, 4096, 4096],
    [8192, 28672, 4096],
    [8192, 4096, 14336],
  ] as const) {
    const [a, b, d] = [bench.normal([m, k], 'bf16'), bench.normal([nn, k], 'bf16'), bench.empty([m, nn], 'bf16')];
    const t: View = { ...b, shape: [k, nn], strides: [1, k] };
    await bench.time(
      `gemm bf16 ${m}×${nn}×${k}`,
      [() => p.matmul({ inputs: { a, b: t }, outputs: { y: d }, attrs: {} })],
      { flops: 2 * m * nn * k },
    );
    bench.free(a, b, d);
  }
});

await group('launch', async () => {
  const x = bench.normal([64], 'f32');
  const call = () => p.unary({ inputs: { x }, outputs: { y: x }, attrs: { op: 'neg' } });
  for (let i = 0; i < 2000; i++) call();
  await backend.synchronize();
  const before = performance.now();
  for (let i = 0; i < 20000; i++) call();
  bench.device.flush();
  const host = performance.now();
  await backend.synchronize();
  bench.add({
    name: 'enqueue one launch (host)',
    microseconds: Number(((host - before) / 20).toFixed(3)),
    fastest: Number(((performance.now() - before) / 20).toFixed(3)),
  });
  await bench.time(
    'smallest launch within a graph',
    Array.from({ length: 64 }, () => call),
  );
  bench.free(x);
});

await group('dequantize', async () => {
  for (const [n, k, goal] of [
    [4096, 4096, 12],
    [14336, 4096, 42],
  ] as const) {
    const bytes = n * k * 2.5 + (n * k) / 64;
    const sets = Array.from({ length: setsFor(bytes) }, () => ({
      w: quantizedWeight(n, k),
      y: bench.empty([n, k], 'bf16'),
    }));
    const attrs = { quantType: 'nf4', blockSize: 64, shape: [n, k], dtype: 'bf16' } as const;
    const { w, y } = sets[0]!;
    f.dequantize!.run({ inputs: { weight: w }, outputs: { y }, attrs });
    const [codes, absmax, values] = [await bench.read(w.codes), await bench.read(w.absmax), await bench.values(y)];
    const expected = new Float64Array(1 << 20);
    for (let i = 0; i < expected.length; i++) {
      const byte = codes[i >> 1]!;
      expected[i] =
        Math.fround(nf4Codebook[i % 2 ? byte & 15 : byte >> 4]!) *
        Math.fround(Math.fround(dynamicMap[absmax[i >> 6]!]! * Math.fround(0.01)) + Math.fround(0.03));
    }
    const error = relativeError(values.subarray(0, expected.length), expected);
    await bench.time(
      `dequantize nf4, double quantized ${n}×${k} bf16`,
      sets.map(
        ({ w: weight, y: out }) =>
          () =>
            f.dequantize!.run({ inputs: { weight }, outputs: { y: out }, attrs }),
      ),
      { bytes, goal, error, tolerance: 3e-3 },
    );
    // The step before it: one element a thread.
    const plain = sets.map(({ w: weight, y: out }) => () => {
      const list = bench.device.launch('dequantize_any', [bench.device.blocks(n * k)], 256);
      const count = n * k;
      quantized(list, weight, attrs).pointer(rangeOf(out)).i64(0).i64(count).i64(count).i64(count);
      bench.device.done(list.i32(4).i32(codeOf.bf16));
    });
    bench.write(y, new Uint16Array(n * k).fill(0x7fc0));
    plain[0]!();
    const right = relativeError((await bench.values(y)).subarray(0, expected.length), expected);
    await bench.time(`dequantize_any ${n}×${k}`, plain, { bytes, error: right, tolerance: 3e-3 });
    for (const s of sets) {
      s.w.dispose();
      bench.free(s.y);
    }
  }
});

await group('quantize', async () => {
  const [n, k] = [4096, 4096];
  const bytes = n * k * 2.5 + (n * k) / 16;
  const sets = Array.from({ length: setsFor(bytes) }, () => ({
    x: bench.normal([n, k], 'bf16'),
    codes: bench.empty([(n * k) / 2], 'u8'),
    absmax: bench.empty([(n * k) / 64], 'f32'),
  }));
  const codebook = bench.of('f32', Float32Array.from(nf4Codebook));
  const run = ({ x, codes, absmax }: (typeof sets)[0]) =>
    f.quantize!.run({
      inputs: { x, codebook },
      outputs: { codes, absmax },
      attrs: { quantType: 'nf4', blockSize: 64 },
    });
  run(sets[0]!);
  const [x, codes] = [await bench.values(sets[0]!.x), await bench.read(sets[0]!.codes)];
  let wrong = 0;
  for (let b = 0; b < 4096; b++) {
    let top = 0;
    for (let i = 0; i < 64; i++) top = Math.max(top, Math.abs(x[b * 64 + i]!));
    const inverse = Math.fround(1 / top);
    for (let i = 0; i < 64; i++) {
      const at = b * 64 + i;
      const s = Math.fround(x[at]! * inverse);
      const code = nf4Bounds.filter((bound) => s > bound).length;
      wrong += Number((at % 2 ? codes[at >> 1]! & 15 : codes[at >> 1]! >> 4) !== code);
    }
  }
  await bench.time(
    'quantize nf4 4096×4096 bf16',
    sets.map((s) => () => run(s)),
    { bytes, goal: 25, error: wrong, tolerance: 0 },
  );
  for (const s of sets) bench.free(s.x, s.codes, s.absmax);
});

await group('gemv', async () => {
  for (const [n, k, goal] of [
    [4096, 4096, 6],
    [14336, 4096, 14],
    [4096, 14336, 14],
  ] as const) {
    const bytes = n * k * 0.5 + (n * k) / 64;
    const sets = Array.from({ length: setsFor(bytes) }, () => quantizedWeight(n, k));
    const [x, y] = [bench.normal([1, k], 'bf16'), bench.empty([1, n], 'bf16')];
    const attrs = { quantType: 'nf4', blockSize: 64, shape: [n, k], transposed: false } as const;
    const run = (weight: QuantViews) => f.quantMatmul!.run({ inputs: { x, weight }, outputs: { y }, attrs });
    run(sets[0]!);
    const dense = bench.empty([n, k], 'f32');
    f.dequantize!.run({ inputs: { weight: sets[0]! }, outputs: { y: dense }, attrs: { ...attrs, dtype: 'f32' } });
    const [w, xv, yv] = [await bench.values(dense), await bench.values(x), await bench.values(y)];
    const expected = Array.from({ length: 64 }, (_, i) => xv.reduce((sum, v, j) => sum + v * w[i * k + j]!, 0));
    await bench.time(
      `nf4 matrix × vector ${n}×${k}`,
      sets.map((s) => () => run(s)),
      { bytes, goal, error: relativeError(yv.subarray(0, 64), expected), tolerance: 4e-3 },
    );
    for (const s of sets) s.dispose();
    bench.free(x, y, dense);
  }
});

await import('./selfcheck-rows.ts');
// Last: a kernel that hangs takes the rest with it.
await import('./selfcheck-attention.ts');

const wrong = bench.figures.filter((x) => x.right === false);
const missed = bench.figures.filter((x) => x.met === false);
console.log(
  `${bench.figures.length} measured, ${wrong.length} wrong, ${missed.length} goals missed${missed.length ? `: ${missed.map((x) => x.name).join('; ')}` : ''}`,
);
if (wrong.length) process.exitCode = 1;
await backend.close();
