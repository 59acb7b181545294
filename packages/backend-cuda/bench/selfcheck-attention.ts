/** Self-check of attention, forward and backward: against f64 at working size, wgmma against the kernels for every GPU; see selfcheck.ts. */
import type { View } from '@lowrank/kernels';
import { bench, f, group, info, scratch } from './context.ts';
import { relativeError } from './measure.ts';

async function attentionFigures(suffix: string): Promise<void> {
  for (const [B, T, Hq, Hkv, D, goals] of [
    [4, 2048, 32, 32, 128, [275, 982]],
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

await group('attention', () => {
  bench.device.hopper = false;
  return attentionFigures('');
});

interface Case {
  readonly dtype: 'bf16' | 'f16';
  /** [batch, queries, keys, query heads, key heads, head width] */
  readonly sizes: readonly [number, number, number, number, number, number];
  readonly causal: boolean;
  readonly ranges: boolean;
}
const odd: readonly Case[] = [
  { dtype: 'bf16', sizes: [2, 333, 333, 6, 2, 128], causal: true, ranges: false },
  { dtype: 'f16', sizes: [1, 130, 517, 4, 4, 64], causal: true, ranges: false },
  { dtype: 'bf16', sizes: [2, 200, 77, 2, 1, 64], causal: false, ranges: false },
  { dtype: 'f16', sizes: [2, 300, 300, 4, 2, 128], causal: true, ranges: true },
  { dtype: 'bf16', sizes: [1, 64, 1000, 3, 3, 128], causal: false, ranges: true },
  { dtype: 'bf16', sizes: [2, 96, 33, 2, 2, 128], causal: true, ranges: false },
  { dtype: 'bf16', sizes: [3, 1024, 1024, 8, 2, 64], causal: true, ranges: true },
  // More tiles than multiprocessors, and long rows.
  { dtype: 'bf16', sizes: [1, 2048, 2048, 10, 2, 128], causal: true, ranges: false },
  { dtype: 'f16', sizes: [1, 2048, 2000, 4, 2, 128], causal: true, ranges: false },
  { dtype: 'bf16', sizes: [1, 300, 4500, 2, 1, 128], causal: true, ranges: false },
];

/** Results of one path: forward, then backward of its own y and lse. */
function both(
  { dtype, sizes: [B, Tq, Tk, Hq, Hkv, D], causal }: Case,
  t: Record<'q' | 'k' | 'v' | 'dy', View>,
  bounds: object,
) {
  const attrs = { scale: 1 / Math.sqrt(D), causal };
  const made = {
    y: bench.empty([B, Tq, Hq, D], dtype),
    lse: bench.empty([B, Hq, Tq], 'f32'),
    dq: bench.empty([B, Tq, Hq, D], dtype),
    dk: bench.empty([B, Tk, Hkv, D], dtype),
    dv: bench.empty([B, Tk, Hkv, D], dtype),
  };
  const { dq, dk, dv, y, lse } = made;
  const workspace = scratch(B * Hq * Tq * 4);
  f.attention!.run({ inputs: { q: t.q, k: t.k, v: t.v, ...bounds }, outputs: { y, lse }, attrs });
  f.attentionBackward!.run({ inputs: { ...t, y, lse, ...bounds }, outputs: { dq, dk, dv }, attrs, workspace });
  bench.free(workspace);
  return made;
}

if (info.computeMajor === 9)
  await group('hopper', async () => {
    // Odd lengths, ranges and masks against the kernels for every GPU, which the conformance suite holds against f64; and two runs.
    for (const one of odd) {
      const { dtype, sizes, causal, ranges } = one;
      const [B, Tq, Tk, Hq, Hkv, D] = sizes;
      const t = {
        q: bench.normal([B, Tq, Hq, D], dtype),
        k: bench.normal([B, Tk, Hkv, D], dtype),
        v: bench.normal([B, Tk, Hkv, D], dtype),
        dy: bench.normal([B, Tq, Hq, D], dtype),
      };
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
            starts: rows((i) => Math.max(0, Math.floor(i / 50) * 50 - 20)),
            ends: rows((i) => Math.min(Tk, i % 7 === 0 ? 0 : Math.floor(i / 50) * 50 + 90)),
          }
        : {};
      const [a, again, b] = [true, true, false].map((hopper) => {
        bench.device.hopper = hopper;
        return both(one, t, bounds);
      }) as [ReturnType<typeof both>, ReturnType<typeof both>, ReturnType<typeof both>];
      const name = `${dtype} ${B}×${Hq}(${Hkv})×${Tq},${Tk}×${D}${causal ? ' causal' : ''}${ranges ? ' ranges' : ''}`;
      for (const key of ['y', 'lse', 'dq', 'dk', 'dv'] as const) {
        const [x, z, w] = [await bench.values(a[key]), await bench.values(b[key]), await bench.values(again[key])];
        const finite = (v: Float64Array) => v.map((value) => (value === -Infinity ? -1e4 : value));
        const error = x.every((v, i) => Object.is(v, w[i])) ? relativeError(finite(x), finite(z)) : Infinity;
        // bf16 rounds weights and their slopes to 8 bits on both paths, at different places.
        const right = error <= (dtype === 'bf16' ? 6e-3 : 1e-3);
        bench.add({ name: `attention wgmma ${key} ${name}`, microseconds: 0, fastest: 0, error, right });
      }
      bench.free(
        ...Object.values(t),
        ...[a, again, b].flatMap((made) => Object.values(made)),
        ...(Object.values(bounds) as View[]),
      );
    }
    bench.device.hopper = true;
    await attentionFigures(', wgmma');
    await longForward();
  });

/** Long rows: a reference in f64 would take minutes here, so the last queries are held against the kernel for every GPU. */
async function longForward(): Promise<void> {
  const [B, T, Hq, Hkv, D] = [1, 8192, 32, 8, 128];
  const [q, k, v] = [Hq, Hkv, Hkv].map((H) => bench.normal([B, T, H, D], 'bf16')) as [View, View, View];
  const [y, lse] = [bench.empty(q.shape, 'bf16'), bench.empty([B, Hq, T], 'f32')];
  const attrs = { scale: 1 / Math.sqrt(D), causal: true };
  const forward = () => f.attention!.run({ inputs: { q, k, v }, outputs: { y, lse }, attrs });
  const rows = 512;
  const last = { ...y, shape: [rows, Hq, D], byteOffset: (T - rows) * Hq * D * 2 };
  bench.device.hopper = false;
  forward();
  const want = await bench.values(last);
  bench.device.hopper = true;
  forward();
  await bench.time(`attention forward ${B}×${Hq}(${Hkv})×${T}×${D} causal bf16, wgmma`, [forward], {
    flops: 2 * B * Hq * T * T * D,
    error: relativeError(await bench.values(last), want),
    tolerance: 6e-3,
  });
  bench.free(q, k, v, y, lse);
}
