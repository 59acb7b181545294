import { type Bench, round } from './measure.ts';

/** Ops that the memory bounds. */
export async function rows(bench: Bench, n: number): Promise<void> {
  const { primitives } = bench.backend;
  const fused = bench.backend.fused as Required<typeof bench.backend.fused>;
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    const [a, b, y] = [bench.random([n, n], dtype), bench.random([n, n], dtype), bench.empty([n, n], dtype)];
    const [weight, rstd] = [bench.random([n], dtype), bench.empty([n], 'f32')];
    const [x2, half] = [bench.random([n, 2 * n], dtype), bench.empty([n, n], dtype)];
    const size = n * n * (dtype === 'f32' ? 4 : 2);
    const calls: Record<string, [run: () => void, bytes: number]> = {
      copy: [() => primitives.copy({ inputs: { x: a }, outputs: { y }, attrs: {} }), 2 * size],
      add: [() => primitives.binary({ inputs: { a, b }, outputs: { y }, attrs: { op: 'add' } }), 3 * size],
      softmax: [() => fused.softmax.run({ inputs: { x: a }, outputs: { y }, attrs: {} }), 2 * size],
      rmsNorm: [
        () => fused.rmsNorm.run({ inputs: { x: a, weight }, outputs: { y, rstd }, attrs: { eps: 1e-6 } }),
        2 * size,
      ],
      swiglu: [() => fused.swiglu.run({ inputs: { x: x2 }, outputs: { y: half }, attrs: {} }), 3 * size],
    };
    for (const [name, [run, bytes]] of Object.entries(calls)) await bench.time(`${name} ${dtype}`, run, { bytes });
    bench.free(a, b, y, weight, rstd, x2, half);
  }
}

/** What the host takes to enqueue a dispatch, eager and replayed: the median of nine times a thousand. */
export async function hostTime(bench: Bench): Promise<void> {
  const name = 'host time a dispatch';
  if (!bench.wants(name)) return;
  const { primitives, record, synchronize } = bench.backend;
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
      await synchronize();
    }
    return samples.sort((p, q) => p - q);
  };
  record!.begin();
  many();
  const recording = record!.end();
  for (const [how, fn] of [
    ['eager', many],
    ['replayed', () => recording.replay()],
  ] as const) {
    const samples = await micros(fn);
    bench.add({
      name: `${name}, ${how}`,
      microseconds: round(samples[4]!),
      fastest: round(samples[0]!),
      slowest: round(samples[8]!),
      timer: 'clock',
    });
  }
  recording.release();
  bench.free(a, y);
}
