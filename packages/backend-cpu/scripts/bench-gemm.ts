/**
 * GFLOP/s of one thread and of all, f32 products of the sizes that training has. Run: node --conditions=source scripts/bench-gemm.ts [threads].
 * Median and best of 25 runs after warm-up, by the clock; and by processor time, which the machine's other work disturbs less.
 */
import { gemm } from '../src/primitives/gemm.ts';
import { Engine } from '../src/runtime/engine.ts';

const threads = Number(process.argv[2] ?? 1);
const shapes: [M: number, N: number, K: number, form: 'NN' | 'NT' | 'TN'][] = [
  [256, 1024, 1024, 'NN'],
  [256, 1024, 1024, 'NT'],
  [256, 576, 576, 'NT'],
  [256, 1536, 576, 'NT'],
  [256, 576, 1536, 'NN'],
  [256, 16, 576, 'NT'],
  [256, 576, 16, 'NT'],
  [16, 576, 256, 'TN'],
  [256, 49152, 576, 'NT'],
  [1, 4096, 4096, 'NT'],
];
const RUNS = 25;

for (const simd of ['relaxed', 'plain'] as const) {
  const engine = await Engine.create({ threads, simd });
  for (const [M, N, K, form] of shapes) {
    const [a, b, c] = [M * K, N * K, M * N].map((n) => engine.heap.allocate(n * 4));
    for (const [buffer, n] of [
      [a!, M * K],
      [b!, N * K],
    ] as const) {
      const x = new Float32Array(engine.heap.memory.buffer, buffer.pointer, n);
      for (let i = 0; i < n; i++) x[i] = ((i * 7919) % 1000) / 500 - 1;
    }
    const A = { pointer: a!.pointer, type: 0, row: form === 'TN' ? 1 : K, column: form === 'TN' ? M : 1 };
    const B = { pointer: b!.pointer, type: 0, row: form === 'NT' ? 1 : N, column: form === 'NT' ? K : 1 };
    const rates: number[] = [];
    const busy: number[] = [];
    for (let i = -5; i < RUNS; i++) {
      const before = process.cpuUsage();
      const start = performance.now();
      gemm(engine, A, B, { pointer: c!.pointer, row: N }, M, N, K);
      const ms = performance.now() - start;
      const { user, system } = process.cpuUsage(before);
      if (i < 0) continue;
      rates.push((2 * M * N * K) / ms / 1e6);
      busy.push((2 * M * N * K) / (user + system) / 1e3);
    }
    for (const list of [rates, busy]) list.sort((x, y) => x - y);
    const text = `${rates[RUNS >> 1]!.toFixed(1).padStart(6)} median ${rates.at(-1)!.toFixed(1).padStart(6)} best, ${busy[RUNS >> 1]!.toFixed(1).padStart(6)} a CPU-second`;
    console.log(`${simd.padEnd(8)} ${engine.threads} thread(s)  ${form} ${M}×${N}×${K}`.padEnd(46), text, 'GFLOP/s');
    for (const buffer of [a!, b!, c!]) engine.heap.release(buffer);
  }
  await engine.close();
}
