/**
 * Checks each kernel at its working size against f64 and times it: node --conditions=source bench/selfcheck.ts [record.jsonl] [name filter].
 * Needs a GPU. The sizes are those of an 8B model (hidden 4096, feed-forward 14336, vocabulary 128256).
 */
import { dynamicMap, nf4Bounds, nf4Codebook, type QuantViews, type View } from '@lowrank/kernels';
import { Bench, relativeError } from './measure.ts';

const [record, filter] = process.argv.slice(2);
const bench = new Bench(record);
const { backend } = bench;
const p = backend.primitives;
const f = backend.fused;
const wanted = (name: string) => !filter || filter.split(',').some((part) => name.includes(part));
const scratch = (bytes: number): View => bench.empty([bytes], 'u8');
const { info } = bench.device;
console.log(`${info.name}, ${info.multiprocessors} multiprocessors, ${(info.memoryBytes / 2 ** 30).toFixed(1)} GiB, L2 ${info.l2Bytes / 2 ** 20} MiB, sm_${bench.device.capability}, cuBLASLt ${bench.device.blas.version} (${bench.device.blas.path})`);
/** Sets of operands that together pass the cache four times. */
const setsFor = (bytes: number) => Math.max(1, Math.min(12, Math.ceil((4 * info.l2Bytes) / bytes)));

async function group(name: string, body: () => Promise<void>): Promise<void> {
  if (!wanted(name)) return;
  try {
    await body();
  } catch (error) {
    console.log(`${name}: FAILED: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
    throw error;
  }
}

function quantizedWeight(n: number, k: number): QuantViews & { dispose(): void } {
  const blocks = (n * k) / 64;
  const views = {
    codes: bench.bits([(n * k) / 2]),
    absmax: bench.bits([blocks]),
    codebook: bench.of('f32', Float32Array.from(nf4Codebook)),
    nestedAbsmax: bench.of('f32', new Float32Array(Math.ceil(blocks / 256)).fill(0.01)),
    nestedCodebook: bench.of('f32', Float32Array.from(dynamicMap)),
    offset: bench.of('f32', Float32Array.of(0.03)),
  };
  return { ...views, dispose: () => bench.free(...Object.values(views)) };
}

await group('ceilings', async () => {
  const n = 1 << 28;
  const [x, y] = [bench.normal([n], 'f32'), bench.empty([n], 'f32')];
  await bench.time('copy 1 GiB', [() => p.copy({ inputs: { x }, outputs: { y }, attrs: {} })], { bytes: 8 * n });
  bench.free(x, y);
  for (const [m, nn, k] of [[8192, 8192, 8192], [8192, 4096, 4096], [8192, 28672, 4096], [8192, 4096, 14336]] as const) {
    const [a, b, d] = [bench.normal([m, k], 'bf16'), bench.normal([nn, k], 'bf16'), bench.empty([m, nn], 'bf16')];
    const t: View = { ...b, shape: [k, nn], strides: [1, k] };
    await bench.time(`gemm bf16 ${m}×${nn}×${k}`, [() => p.matmul({ inputs: { a, b: t }, outputs: { y: d }, attrs: {} })], { flops: 2 * m * nn * k });
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
  bench.add({ name: 'enqueue one launch (host)', microseconds: Number(((host - before) / 20).toFixed(3)), fastest: Number(((performance.now() - before) / 20).toFixed(3)) });
  await bench.time('smallest launch within a graph', Array.from({ length: 64 }, () => call));
  bench.free(x);
});

await group('dequantize', async () => {
  for (const [n, k, goal] of [[4096, 4096, 12], [14336, 4096, 42]] as const) {
    const bytes = n * k * 2.5 + (n * k) / 64;
    const sets = Array.from({ length: setsFor(bytes) }, () => ({ w: quantizedWeight(n, k), y: bench.empty([n, k], 'bf16') }));
    const attrs = { quantType: 'nf4', blockSize: 64, shape: [n, k], dtype: 'bf16' } as const;
    const { w, y } = sets[0]!;
    f.dequantize!.run({ inputs: { weight: w }, outputs: { y }, attrs });
    const [codes, absmax, values] = [await bench.read(w.codes), await bench.read(w.absmax), await bench.values(y)];
    const expected = new Float64Array(1 << 20);
    for (let i = 0; i < expected.length; i++) {
      const byte = codes[i >> 1]!;
      expected[i] = Math.fround(nf4Codebook[i % 2 ? byte & 15 : byte >> 4]!) * Math.fround(Math.fround(dynamicMap[absmax[i >> 6]!]! * Math.fround(0.01)) + Math.fround(0.03));
    }
    const error = relativeError(values.subarray(0, expected.length), expected);
    await bench.time(`dequantize nf4, double quantized ${n}×${k} bf16`, sets.map(({ w: weight, y: out }) => () => f.dequantize!.run({ inputs: { weight }, outputs: { y: out }, attrs })), { bytes, goal, error, tolerance: 3e-3 });
    for (const s of sets) {
      s.w.dispose();
      bench.free(s.y);
    }
  }
});

await group('quantize', async () => {
  const [n, k] = [4096, 4096];
  const bytes = n * k * 2.5 + (n * k) / 16;
  const sets = Array.from({ length: setsFor(bytes) }, () => ({ x: bench.normal([n, k], 'bf16'), codes: bench.empty([(n * k) / 2], 'u8'), absmax: bench.empty([(n * k) / 64], 'f32') }));
  const codebook = bench.of('f32', Float32Array.from(nf4Codebook));
  const run = ({ x, codes, absmax }: (typeof sets)[0]) => f.quantize!.run({ inputs: { x, codebook }, outputs: { codes, absmax }, attrs: { quantType: 'nf4', blockSize: 64 } });
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
  await bench.time('quantize nf4 4096×4096 bf16', sets.map((s) => () => run(s)), { bytes, goal: 25, error: wrong, tolerance: 0 });
  for (const s of sets) bench.free(s.x, s.codes, s.absmax);
});

await group('gemv', async () => {
  for (const [n, k, goal] of [[4096, 4096, 6], [14336, 4096, 14], [4096, 14336, 14]] as const) {
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
    await bench.time(`nf4 matrix × vector ${n}×${k}`, sets.map((s) => () => run(s)), { bytes, goal, error: relativeError(yv.subarray(0, 64), expected), tolerance: 4e-3 });
    for (const s of sets) s.dispose();
    bench.free(x, y, dense);
  }
});

async function attentionFigures(suffix: string): Promise<void> {
  for (const [B, T, Hq, Hkv, D, goals] of [[4, 2048, 32, 32, 128, [137, 491]], [4, 2048, 32, 8, 128, undefined], [8, 512, 9, 3, 64, undefined]] as const) {
    const make = () => ({ q: bench.normal([B, T, Hq, D], 'bf16'), k: bench.normal([B, T, Hkv, D], 'bf16'), v: bench.normal([B, T, Hkv, D], 'bf16'), dy: bench.normal([B, T, Hq, D], 'bf16') });
    const { q, k, v, dy } = make();
    const [y, lse, dq, dk, dv] = [bench.empty(q.shape, 'bf16'), bench.empty([B, Hq, T], 'f32'), bench.empty(q.shape, 'bf16'), bench.empty(k.shape, 'bf16'), bench.empty(k.shape, 'bf16')];
    const attrs = { scale: 1 / Math.sqrt(D), causal: true };
    const forward = () => f.attention!.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
    const workspace = scratch(B * Hq * T * 4);
    const backward = () => f.attentionBackward!.run({ inputs: { dy, q, k, v, y, lse }, outputs: { dq, dk, dv }, attrs, workspace });
    forward();
    backward();
    const reference = await attentionReference({ q, k, v, dy, y, dq, dk, dv }, B - 1, Hq - 1);
    const flops = 2 * B * Hq * T * T * D;
    const label = `${B}×${Hq}(${Hkv})×${T}×${D} causal bf16${suffix}`;
    await bench.time(`attention forward ${label}`, [forward], { flops, error: reference.y, tolerance: 8e-3, ...(goals ? { goal: goals[0] } : {}) });
    await bench.time(`attention backward ${label}`, [backward], { flops: 2.5 * flops, error: Math.max(reference.dq, reference.dk, reference.dv), tolerance: 1.2e-2, ...(goals ? { goal: goals[1] } : {}) });
    bench.free(q, k, v, dy, y, lse, dq, dk, dv, workspace);
  }
}
await group('attention', () => {
  bench.device.hopper = false;
  return attentionFigures('');
});

/** Relative errors of one head of the last sample: y and dq of every query, dk and dv summed over the group in f64. */
async function attentionReference(t: Record<'q' | 'k' | 'v' | 'dy' | 'y' | 'dq' | 'dk' | 'dv', View>, b: number, h: number) {
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

await group('rows', async () => {
  const [M, K, F, V] = [8192, 4096, 14336, 128256];
  const x = bench.normal([M, K], 'bf16');
  const dy = bench.normal([M, K], 'bf16');
  const y = bench.empty([M, K], 'bf16');
  const weight = bench.normal([K], 'bf16');
  const rstd = bench.empty([M], 'f32');
  const size = M * K * 2;
  await bench.time('rmsNorm 8192×4096', [() => f.rmsNorm!.run({ inputs: { x, weight }, outputs: { y, rstd }, attrs: { eps: 1e-5 } })], { bytes: 2 * size });
  await bench.time('rmsNormBackward 8192×4096', [() => f.rmsNormBackward!.run({ inputs: { dy, x, weight, rstd }, outputs: { dx: y }, attrs: { needWeight: false } })], { bytes: 3 * size });
  const shape4 = [4, 2048, 32, 128];
  const heads = (v: View): View => ({ ...v, shape: shape4, strides: [2048 * 4096, 4096, 128, 1] });
  const [cos, sin] = [bench.normal([2048, 64], 'f32'), bench.normal([2048, 64], 'f32')];
  const positions = bench.of('i32', Int32Array.from({ length: M }, (_, i) => i % 2048));
  const ropeCall = () => f.rope!.run({ inputs: { x: heads(x), cos, sin, positions: { ...positions, shape: [4, 2048], strides: [2048, 1] } }, outputs: { y: heads(x) }, attrs: { inverse: false } });
  await bench.time('rope in place 4×2048×32×128', [ropeCall], { bytes: 2 * size });
  await bench.time('binary add 8192×4096', [() => p.binary({ inputs: { a: x, b: dy }, outputs: { y }, attrs: { op: 'add' } })], { bytes: 3 * size });
  await bench.time('transpose 8192×4096', [() => p.copy({ inputs: { x: { ...x, shape: [K, M], strides: [1, K] } }, outputs: { y: { ...y, shape: [K, M], strides: [M, 1] } }, attrs: {} })], { bytes: 2 * size });
  bench.free(x, dy, y, weight, rstd, cos, sin, positions);
  const gate = bench.normal([M, 2 * F], 'bf16');
  const act = bench.empty([M, F], 'bf16');
  await bench.time('swiglu 8192×14336', [() => f.swiglu!.run({ inputs: { x: gate }, outputs: { y: act }, attrs: {} })], { bytes: 6 * M * F });
  await bench.time('swigluBackward 8192×14336 in place', [() => f.swigluBackward!.run({ inputs: { dy: act, x: gate }, outputs: { dx: gate }, attrs: {} })], { bytes: 10 * M * F });
  bench.free(gate, act);
  const logits = bench.normal([2048, V], 'bf16');
  const labels = bench.of('i32', Int32Array.from({ length: 2048 }, (_, i) => (i * 7919) % V));
  const loss = bench.empty([2048], 'f32');
  await bench.time('crossEntropy 2048×128256, gradient in place', [() => f.crossEntropy!.run({ inputs: { logits, labels }, outputs: { loss, dlogits: logits }, attrs: { gradient: true } })], { bytes: 4 * 2048 * V });
  bench.free(logits, labels, loss);
  const n = 42_000_000;
  const [w, g, m, v] = [bench.normal([n], 'f32'), bench.normal([n], 'f32'), bench.normal([n], 'f32'), bench.empty([n], 'f32')];
  p.fill({ inputs: {}, outputs: { y: v }, attrs: { shape: [n], dtype: 'f32', value: 1 } });
  const hyper = bench.of('f32', Float32Array.of(1e-4, 0.01, 0.1, 0.03));
  await bench.time('adamw 42M f32', [() => f.adamw!.run({ inputs: { p: w, g, m, v, hyper }, outputs: { p: w, m, v }, attrs: { beta1: 0.9, beta2: 0.999, eps: 1e-8 } })], { bytes: 28 * n });
  const sum = bench.empty([1], 'f32');
  await bench.time('sum of squares 42M f32', [() => p.reduce({ inputs: { x: g }, outputs: { y: sum }, attrs: { op: 'sumSquares', axes: [0] } })], { bytes: 4 * n });
  bench.free(w, g, m, v, hyper, sum);
});

await group('lora', async () => {
  const M = 8192;
  const r = 16;
  for (const [label, K, outs] of [['q, k, v', 4096, [4096, 1024, 1024]], ['o', 4096, [4096]], ['gate, up', 4096, [14336, 14336]], ['down', 14336, [4096]]] as const) {
    const N = outs.reduce((s: number, n) => s + n, 0);
    const x = bench.normal([M, K], 'bf16', 0.1);
    const dy = bench.normal([M, N], 'bf16', 0.1);
    const layers = outs.map((n) => ({ quant: quantizedWeight(n, K), a: bench.normal([r, K], 'f32', 0.01), b: bench.normal([n, r], 'f32', 0.01) }));
    const attrs = { layers: outs.map((n) => ({ outFeatures: n, scale: 2, quant: { quantType: 'nf4' as const, blockSize: 64, shape: [n, K] } })) };
    const [y, h, dx] = [bench.empty([M, N], 'bf16'), bench.empty([M, r * outs.length], 'bf16'), bench.empty([M, K], 'bf16')];
    const da = outs.map(() => bench.empty([r, K], 'f32'));
    const db = outs.map((n) => bench.empty([n, r], 'f32'));
    const forwardSpec = { inputs: { x, layers }, outputs: { y, h }, attrs };
    const backwardSpec = { inputs: { dy, x, h, layers }, outputs: { dx, da, db }, attrs: { ...attrs, needX: true } };
    const workspace = scratch(Math.max(f.loraLinear!.workspace!(forwardSpec as never), f.loraLinearBackward!.workspace!(backwardSpec as never)));
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

// What timing the library's candidates would gain over its first choice.
await group('candidates', async () => {
  const { native, handle } = bench.device;
  const space = scratch(64 << 20);
  for (const [m, n, k, transA, transB] of [
    [8192, 6144, 4144, false, true], [8192, 4096, 4112, false, true], [8192, 14336, 4128, false, true], [8192, 4096, 14336, false, true],
    [8192, 4096, 14336, false, false], [8192, 14336, 4096, false, false], [8192, 4096, 4096, false, false], [2048, 14336, 4128, false, true], [1024, 128256, 4096, false, true],
  ] as const) {
    const [a, b, d] = [bench.normal([m * k], 'bf16'), bench.normal([n * k], 'bf16'), bench.empty([m * n], 'bf16')];
    const range = (v: View) => ({ memory: (v.buffer as { handle?: number }).handle!, offset: 0, bytes: v.shape[0]! * 2 });
    for (const workspaceBytes of [32 << 20, 64 << 20]) {
      const plan = native.matmulPlan(handle, { m, n, k, transA, transB, typeA: 14, typeB: 14, typeD: 14, lda: k, ldb: transB ? k : n, ldd: n, workspaceBytes, candidates: 8, align: 16 });
      for (const index of plan.algos.keys()) {
        native.matmulChoose(plan.handle, index);
        const run = () => {
          bench.device.commands.matmul(plan.handle, 1, 0, range(a), range(b), range(d), { memory: (space.buffer as { handle?: number }).handle!, offset: 0, bytes: workspaceBytes });
          bench.device.flush();
        };
        await bench.time(`gemm ${m}×${n}×${k}${transB ? ' Tb' : ''} candidate ${index}, ${workspaceBytes >> 20} MiB`, [run], { flops: 2 * m * n * k });
      }
    }
    bench.free(a, b, d);
  }
  bench.free(space);
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
    bench.add({ name: 'write 256 MiB', microseconds: Math.round((t1 - t0) * 1000), fastest: 0, gigabytesPerSecond: Number((bytes / (t1 - t0) / 1e6).toFixed(2)) });
    bench.add({ name: 'read 256 MiB', microseconds: Math.round((t2 - t1) * 1000), fastest: 0, gigabytesPerSecond: Number((bytes / (t2 - t1) / 1e6).toFixed(2)) });
  }
  bench.free(view);
});

// Last: a kernel that hangs takes the rest with it.
if (info.computeMajor === 9)
  await group('hopper', async () => {
    // Odd lengths, ranges and masks against the kernel for every GPU, which the conformance suite holds against f64.
    for (const [dtype, B, Tq, Tk, Hq, Hkv, D, causal, ranges] of [
      ['bf16', 2, 333, 333, 6, 2, 128, true, false], ['f16', 1, 130, 517, 4, 4, 64, true, false], ['bf16', 2, 200, 77, 2, 1, 64, false, false],
      ['f16', 2, 300, 300, 4, 2, 128, true, true], ['bf16', 1, 64, 1000, 3, 3, 128, false, true], ['bf16', 2, 96, 33, 2, 2, 128, true, false],
    ] as const) {
      const [q, k, v] = [bench.normal([B, Tq, Hq, D], dtype), bench.normal([B, Tk, Hkv, D], dtype), bench.normal([B, Tk, Hkv, D], dtype)];
      const rows = (of: (t: number) => number): View => ({ ...bench.of('i32', Int32Array.from({ length: B * Tq }, (_, i) => of(i % Tq))), shape: [B, Tq], strides: [Tq, 1] });
      const bounds = ranges ? { starts: rows((t) => Math.max(0, Math.floor(t / 50) * 50 - 20)), ends: rows((t) => Math.min(Tk, t % 7 === 0 ? 0 : Math.floor(t / 50) * 50 + 90)) } : {};
      const outputs = [true, false].map((hopper) => {
        bench.device.hopper = hopper;
        const made = { y: bench.empty([B, Tq, Hq, D], dtype), lse: bench.empty([B, Hq, Tq], 'f32') };
        f.attention!.run({ inputs: { q, k, v, ...bounds }, outputs: made, attrs: { scale: 1 / Math.sqrt(D), causal } });
        return made;
      });
      const [a, b] = outputs as [(typeof outputs)[0], (typeof outputs)[0]];
      const finite = (x: Float64Array) => x.map((value) => (value === -Infinity ? -1e4 : value));
      const error = Math.max(relativeError(await bench.values(a.y), await bench.values(b.y)), relativeError(finite(await bench.values(a.lse)), finite(await bench.values(b.lse))));
      bench.add({ name: `attention wgmma ${dtype} ${B}×${Hq}(${Hkv})×${Tq},${Tk}×${D}${causal ? ' causal' : ''}${ranges ? ' ranges' : ''}`, microseconds: 0, fastest: 0, error, right: error <= 4e-3 });
      bench.free(q, k, v, a.y, a.lse, b.y, b.lse, ...Object.values(bounds));
    }
    bench.device.hopper = true;
    await attentionFigures(', wgmma');
  });

const wrong = bench.figures.filter((x) => x.right === false);
const missed = bench.figures.filter((x) => x.met === false);
console.log(`${bench.figures.length} measured, ${wrong.length} wrong, ${missed.length} goals missed${missed.length ? `: ${missed.map((x) => x.name).join('; ')}` : ''}`);
if (wrong.length) process.exitCode = 1;
await backend.close();
