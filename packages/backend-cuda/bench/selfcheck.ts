/**
 * Checks each kernel at its working size against f64 and times it: node --conditions=source bench/selfcheck.ts [record.jsonl] [name filter].
 * Needs a GPU. The sizes are those of an 8B model (hidden 4096, feed-forward 14336, vocabulary 128256).
 */
import { dynamicMap, nf4Bounds, nf4Codebook, type QuantViews, type View } from '@lowrank/kernels';
import { backend, bench, f, group, info, p, quantizedWeight, scratch, setsFor } from './context.ts';
import { relativeError } from './measure.ts';

await group('ceilings', async () => {
  const n = 1 << 28;
  const [x, y] = [bench.normal([n], 'f32'), bench.empty([n], 'f32')];
  await bench.time('copy 1 GiB', [() => p.copy({ inputs: { x }, outputs: { y }, attrs: {} })], { bytes: 8 * n });
  bench.free(x, y);
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

async function attentionFigures(suffix: string): Promise<void> {
  for (const [B, T, Hq, Hkv, D, goals] of [
    [4, 2048, 32, 32, 128, [137, 491]],
    [4, 2048, 32, 8, 128, undefined],
    [8, 512, 9, 3, 64, undefined],
  ] as const) {
    const make = () => ({
      q: bench.normal([B, T, Hq, D], 'bf16'),
      k: bench.normal([B, T, Hkv, D], 'bf16'),
      v: bench.normal([B, T, Hkv, D], 'bf16'),
      dy: bench.normal([B, T, Hq, D], 'bf16'),
    });
    const { q, k, v, dy } = make();
    const [y, lse, dq, dk, dv] = [
      bench.empty(q.shape, 'bf16'),
      bench.empty([B, Hq, T], 'f32'),
      bench.empty(q.shape, 'bf16'),
      bench.empty(k.shape, 'bf16'),
      bench.empty(k.shape, 'bf16'),
    ];
    const attrs = { scale: 1 / Math.sqrt(D), causal: true };
    const forward = () => f.attention!.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
    const workspace = scratch(B * Hq * T * 4);
    const backward = () =>
      f.attentionBackward!.run({ inputs: { dy, q, k, v, y, lse }, outputs: { dq, dk, dv }, attrs, workspace });
    forward();
    backward();
    const reference = await attentionReference({ q, k, v, dy, y, dq, dk, dv }, B - 1, Hq - 1);
    const flops = 2 * B * Hq * T * T * D;
    const label = `${B}×${Hq}(${Hkv})×${T}×${D} causal bf16${suffix}`;
    await bench.time(`attention forward ${label}`, [forward], {
      flops,
      error: reference.y,
      tolerance: 8e-3,
      ...(goals ? { goal: goals[0] } : {}),
    });
    await bench.time(`attention backward ${label}`, [backward], {
      flops: 2.5 * flops,
      error: Math.max(reference.dq, reference.dk, reference.dv),
      tolerance: 1.2e-2,
      ...(goals ? { goal: goals[1] } : {}),
    });
    bench.free(q, k, v, dy, y, lse, dq, dk, dv, workspace);
  }
}
await group('attention', () => {
  bench.device.hopper = false;
  return attentionFigures('');
});

/** Relative errors of one head of the last sample: y and dq of every query, dk and dv summed over the group in f64. */
async function attentionReference(
  t: Record<'q' | 'k' | 'v' | 'dy' | 'y' | 'dq' | 'dk' | 'dv', View>,
  b: number,
  h: number,
) {
  const [, T, Hq, D] = t.q.shape as [number, number, number, number];
  const Hkv = t.k.shape[2]!;
  const hkv = Math.floor((h * Hkv) / Hq);
  const head = async (x: View, index: number) => {
    const [, , H] = x.shape as [number, number, number, number];
    const all = await bench.values({ ...x, shape: [T, H, D], byteOffset: x.byteOffset + b * T * H * D * 2 });
    return Float64Array.from({ length: T * D }, (_, i) => all[(Math.floor(i / D) * H + index) * D + (i % D)]!);
  };
  const [k, v, dk, dv] = [await head(t.k, hkv), await head(t.v, hkv), await head(t.dk, hkv), await head(t.dv, hkv)];
  const scale = 1 / Math.sqrt(D);
  const want = { dk: new Float64Array(T * D), dv: new Float64Array(T * D) };
  const errors = { y: 0, dq: 0 };
  const dot = (x: Float64Array, i: number, z: Float64Array, j: number) => {
    let s = 0;
    for (let d = 0; d < D; d++) s += x[i * D + d]! * z[j * D + d]!;
    return s;
  };
  for (let hq = hkv * (Hq / Hkv); hq < (hkv + 1) * (Hq / Hkv); hq++) {
    const [q, dy, y, dq] = [await head(t.q, hq), await head(t.dy, hq), await head(t.y, hq), await head(t.dq, hq)];
    const wantY = new Float64Array(T * D);
    const wantDq = new Float64Array(T * D);
    for (let i = 0; i < T; i++) {
      const s = Float64Array.from({ length: i + 1 }, (_, j) => scale * dot(q, i, k, j));
      const top = s.reduce((m, x) => Math.max(m, x), -Infinity);
      const e = s.map((x) => Math.exp(x - top));
      const sum = e.reduce((m, x) => m + x, 0);
      for (let j = 0; j <= i; j++) for (let d = 0; d < D; d++) wantY[i * D + d]! += (e[j]! / sum) * v[j * D + d]!;
      const delta = dot(dy, i, wantY, i);
      for (let j = 0; j <= i; j++) {
        const weight = e[j]! / sum;
        const ds = weight * (dot(dy, i, v, j) - delta) * scale;
        for (let d = 0; d < D; d++) {
          wantDq[i * D + d]! += ds * k[j * D + d]!;
          want.dk[j * D + d]! += ds * q[i * D + d]!;
          want.dv[j * D + d]! += weight * dy[i * D + d]!;
        }
      }
    }
    errors.y = Math.max(errors.y, relativeError(y, wantY));
    errors.dq = Math.max(errors.dq, relativeError(dq, wantDq));
  }
  return { ...errors, dk: relativeError(dk, want.dk), dv: relativeError(dv, want.dv) };
}

await import('./selfcheck-rows.ts');

// Last: a kernel that hangs takes the rest with it.
if (info.computeMajor === 9)
  await group('hopper', async () => {
    // Odd lengths, ranges and masks against the kernel for every GPU, which the conformance suite holds against f64.
    for (const [dtype, B, Tq, Tk, Hq, Hkv, D, causal, ranges] of [
      ['bf16', 2, 333, 333, 6, 2, 128, true, false],
      ['f16', 1, 130, 517, 4, 4, 64, true, false],
      ['bf16', 2, 200, 77, 2, 1, 64, false, false],
      ['f16', 2, 300, 300, 4, 2, 128, true, true],
      ['bf16', 1, 64, 1000, 3, 3, 128, false, true],
      ['bf16', 2, 96, 33, 2, 2, 128, true, false],
    ] as const) {
      const [q, k, v] = [
        bench.normal([B, Tq, Hq, D], dtype),
        bench.normal([B, Tk, Hkv, D], dtype),
        bench.normal([B, Tk, Hkv, D], dtype),
      ];
      const rows = (of: (t: number) => number): View => ({
        ...bench.of(
          'i32',
          Int32Array.from({ length: B * Tq }, (_, i) => of(i % Tq)),
        ),
        shape: [B, Tq],
        strides: [Tq, 1],
      });
      const bounds = ranges
        ? {
            starts: rows((t) => Math.max(0, Math.floor(t / 50) * 50 - 20)),
            ends: rows((t) => Math.min(Tk, t % 7 === 0 ? 0 : Math.floor(t / 50) * 50 + 90)),
          }
        : {};
      const outputs = [true, false].map((hopper) => {
        bench.device.hopper = hopper;
        const made = { y: bench.empty([B, Tq, Hq, D], dtype), lse: bench.empty([B, Hq, Tq], 'f32') };
        f.attention!.run({ inputs: { q, k, v, ...bounds }, outputs: made, attrs: { scale: 1 / Math.sqrt(D), causal } });
        return made;
      });
      const [a, b] = outputs as [(typeof outputs)[0], (typeof outputs)[0]];
      const finite = (x: Float64Array) => x.map((value) => (value === -Infinity ? -1e4 : value));
      const error = Math.max(
        relativeError(await bench.values(a.y), await bench.values(b.y)),
        relativeError(finite(await bench.values(a.lse)), finite(await bench.values(b.lse))),
      );
      bench.add({
        name: `attention wgmma ${dtype} ${B}×${Hq}(${Hkv})×${Tq},${Tk}×${D}${causal ? ' causal' : ''}${ranges ? ' ranges' : ''}`,
        microseconds: 0,
        fastest: 0,
        error,
        right: error <= 4e-3,
      });
      bench.free(q, k, v, a.y, a.lse, b.y, b.lse, ...Object.values(bounds));
    }
    bench.device.hopper = true;
    await attentionFigures(', wgmma');
  });

const wrong = bench.figures.filter((x) => x.right === false);
const missed = bench.figures.filter((x) => x.met === false);
console.log(
  `${bench.figures.length} measured, ${wrong.length} wrong, ${missed.length} goals missed${missed.length ? `: ${missed.map((x) => x.name).join('; ')}` : ''}`,
);
if (wrong.length) process.exitCode = 1;
await backend.close();
